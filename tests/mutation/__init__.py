"""Breaks the code in one way at a time; the suite must notice each way."""
