"""What comes over the wire from those who mean no good, sent through raw sockets to the process server itself."""
