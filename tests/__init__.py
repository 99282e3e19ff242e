"""The tests of the service, on a real PostgreSQL."""
