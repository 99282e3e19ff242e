"""Databases of the size of a large platform."""
