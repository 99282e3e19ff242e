"""Parts of the wire protocol that every call shares."""
