"""Tests of the constraints in the database."""
