"""The staff desk inside Django admin."""
