"""Tests of the domain functions."""
