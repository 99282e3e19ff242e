"""How staff sign in to the admin, and their accounts."""
