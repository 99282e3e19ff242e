"""Talks to the network: outgoing HTTP requests, and the address of a caller."""
