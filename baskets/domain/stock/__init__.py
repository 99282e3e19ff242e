"""The catalog of limited products and the counters of their stock."""
