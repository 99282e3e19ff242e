"""Wires the service: settings, URLs, start-up. Contains no rule about baskets."""
