"""The first page of the admin: open work, the state of the service, and figures."""
