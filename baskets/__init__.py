"""The shopping baskets of streaming platforms: stock, reservations, checkout sessions and the baskets themselves."""
