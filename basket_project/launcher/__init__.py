"""Runs the project on a bare machine: environment, database, service. Standard library only; contains no rule about baskets."""
