"""What staff may do: repairs, the audit log and the erasure of a user."""
