"""The tests: what the service promises, asked of a real PostgreSQL."""
