"""Accounts of staff: second factors, rights and sessions."""
