"""Baskets and what is in them: items, lists, life cycle, transfers and guests."""
