"""The event feed and the webhooks that deliver it."""
