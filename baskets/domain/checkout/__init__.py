"""Checkout sessions: started, finished, aborted, expired, and flagged for staff."""
