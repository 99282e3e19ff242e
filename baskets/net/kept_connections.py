"""Connections that stay open between requests. Opens none and sends nothing: `http_client` does."""

import socket
import threading
import time
from dataclasses import dataclass, replace

from urllib3.util.wait import wait_for_read

from baskets.net.outgoing_urls import Origin

# A connection that was opened earlier is not used again, so that a host that moves is followed, and its addresses are checked again.
MAX_CONNECTION_AGE_SECONDS = 60.0
MAX_IDLE_SECONDS = 15.0


@dataclass(frozen=True, kw_only=True)
class Connection:
    """An open connection to a checked address.

    :param socket: a TLS socket for https.
    :param opened_at: on the monotonic clock.
    :param used_at: the end of its last request, on the monotonic clock; None for a new one.
    """

    socket: socket.socket
    opened_at: float
    used_at: float | None = None

    def is_usable(self) -> bool:
        """Return whether the connection is young, was used recently, and the receiver has neither closed it nor sent more."""
        now = time.monotonic()
        is_young = now - self.opened_at < MAX_CONNECTION_AGE_SECONDS and now - (self.used_at or now) < MAX_IDLE_SECONDS
        return is_young and not wait_for_read(self.socket, timeout=0)


class KeptConnections:
    """Connections that stay open between requests to the same scheme, host and port. Safe for threads.

    Each was opened to an address that was checked, at most `MAX_CONNECTION_AGE_SECONDS` ago.
    """

    def __init__(self) -> None:
        self._idle: dict[Origin, list[Connection]] = {}
        self._lock = threading.Lock()

    def take(self, origin: Origin) -> Connection | None:
        """Return an idle connection, which is the caller's until it is put back; None if there is none."""
        while True:
            with self._lock:
                idle = self._idle.get(origin)
                found = idle.pop() if idle else None
            if found is None or found.is_usable():
                return found
            found.socket.close()

    def put(self, origin: Origin, connection: Connection) -> None:
        """Keep a connection whose last response was read to its end."""
        with self._lock:
            self._idle.setdefault(origin, []).append(replace(connection, used_at=time.monotonic()))

    def close_unusable(self) -> None:
        """Close the connections that will not be used again."""
        with self._lock:
            idle = [(origin, found) for origin, connections in self._idle.items() for found in connections]
            self._idle = {}
            for origin, found in idle:
                if found.is_usable():
                    self._idle.setdefault(origin, []).append(found)
                else:
                    found.socket.close()

    def close(self) -> None:
        """Close all idle connections."""
        with self._lock:
            idle, self._idle = self._idle, {}
        for connections in idle.values():
            for found in connections:
                found.socket.close()
