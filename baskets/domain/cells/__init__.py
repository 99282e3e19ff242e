"""Several installations that serve one set of users: how users are divided, and what moves between the cells. See ADR 56."""
