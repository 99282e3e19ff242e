"""Authentication and throttling of callers."""
