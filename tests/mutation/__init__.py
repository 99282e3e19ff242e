"""The code is broken on purpose, one way at a time, and the suite must notice each."""
