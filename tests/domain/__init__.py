"""The rules, asked of the domain functions."""
