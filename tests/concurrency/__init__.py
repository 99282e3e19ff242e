"""Races: real threads at a barrier on a real PostgreSQL, and the control that shows what a missing lock would do."""
