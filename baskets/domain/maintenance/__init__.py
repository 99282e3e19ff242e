"""What schedulers run: retention, re-encryption, checks and load tests."""
