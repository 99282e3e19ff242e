"""Talks to PostgreSQL: pipelined statements, transactions, and what its errors mean. Knows nothing of baskets."""
