"""List calls: queries, filters and pagination."""
