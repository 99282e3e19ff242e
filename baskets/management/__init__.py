"""Django reads its commands below this package."""
