"""The HTTP/1.1 server in front of the application: reads whole requests, bounds them, queues them. Knows WSGI, and nothing of baskets."""
