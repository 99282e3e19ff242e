"""Starts the project on a bare machine: environment, database server, service. Standard library only, no Django, no rule about baskets."""
