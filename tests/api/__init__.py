"""Tests of the REST layer, over HTTP."""
