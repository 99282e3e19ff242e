"""Django's PostgreSQL backend with time limits of the client."""
