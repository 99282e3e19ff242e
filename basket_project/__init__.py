"""The wiring of the service: settings, addresses, start-up. No rule about baskets lives here."""
