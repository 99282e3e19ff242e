"""What the database does on a bad day, provoked for real."""
