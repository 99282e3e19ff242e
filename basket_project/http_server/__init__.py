"""The HTTP/1.1 server in front of the WSGI application: reads whole requests, limits and queues them. Contains no rule about baskets."""
