"""The open connections of a worker, kept within two limits: their number, and the bytes buffered for them. Parses nothing."""

import contextlib
import heapq
import selectors
import socket
import time
from collections.abc import Iterator

from basket_project.http_server.connections import Connection, Phase
from basket_project.http_server.limits import Limits

_ACCEPT_BATCH = 64
# At a limit, one in this many connections is closed at once, because finding the oldest is expensive.
_CLOSE_FRACTION = 64


class ConnectionTable:
    """The open connections, and what the selector watches of each. Only the event loop uses it."""

    def __init__(self, selector: selectors.BaseSelector, limits: Limits) -> None:
        self._selector = selector
        self._limits = limits
        self._connections: dict[Connection, None] = {}
        self._buffered_bytes = 0
        self.closed_for_limit = 0

    def __len__(self) -> int:
        return len(self._connections)

    def __iter__(self) -> Iterator[Connection]:
        return iter(self._connections)

    def __contains__(self, connection: Connection) -> bool:
        return connection in self._connections

    @property
    def in_flight(self) -> int:
        """The number of connections whose request has no response yet."""
        return sum(connection.phase is Phase.BUSY for connection in self._connections)

    def accept(self, listener: socket.socket) -> bool:
        """Accept waiting connections; returns whether there may be more."""
        for _ in range(_ACCEPT_BATCH):
            if len(self._connections) >= self._limits.connections:
                self._close_oldest()
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return False
            except OSError:  # No file descriptor is left, or the client has disconnected.
                self._close_oldest()
                return False
            if len(self._connections) >= self._limits.connections:  # All are busy.
                sock.close()
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, address, time.monotonic() + self._limits.idle_seconds)
            self._connections[connection] = None
            self._selector.register(sock, selectors.EVENT_READ, connection)
        return True

    def _close_oldest(self) -> None:
        """Close the longest waiting connections: idle ones first, never a busy one."""
        candidates = (each for each in self._connections if each.phase is not Phase.BUSY)
        number = max(1, len(self._connections) // _CLOSE_FRACTION)
        for connection in heapq.nsmallest(number, candidates, key=lambda each: (each.phase, each.deadline)):
            self.closed_for_limit += 1
            self.close(connection)

    def close(self, connection: Connection) -> None:
        """Close a connection, if it is open."""
        if self._connections.pop(connection, self) is self:
            return  # Already closed.
        self.uncount_buffer(connection)
        if not connection.peer_closed and not connection.paused:
            self._selector.unregister(connection.sock)
        connection.sock.close()

    def count_buffer(self, connection: Connection, size: int) -> None:
        """Count that a connection buffers this many bytes more; above the limit, close the connections with most."""
        connection.buffered_bytes += size
        self._buffered_bytes += size
        if self._buffered_bytes <= self._limits.buffered_bytes:
            return
        holders = [each for each in self._connections if each.buffered_bytes]
        for holder in heapq.nlargest(max(1, len(holders) // _CLOSE_FRACTION), holders, key=lambda each: each.buffered_bytes):
            self.closed_for_limit += 1
            self.close(holder)

    def uncount_buffer(self, connection: Connection) -> None:
        """Count that a connection buffers nothing any more."""
        self._buffered_bytes -= connection.buffered_bytes
        connection.buffered_bytes = 0

    # --- What the selector watches ---------------------------------------------------

    def pause(self, connection: Connection) -> None:
        """Stop reading until `resume` or `watch_writing`."""
        self._selector.unregister(connection.sock)
        connection.paused = True

    def resume(self, connection: Connection) -> None:
        """Read again, if the connection is paused."""
        if connection.paused:
            connection.paused = False
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)

    def mark_peer_closed(self, connection: Connection) -> None:
        """Watch nothing any more: the client has closed its side."""
        self._selector.unregister(connection.sock)
        connection.peer_closed = True

    def watch_writing(self, connection: Connection) -> None:
        """Wait until the client reads, in place of its input."""
        if connection.paused:
            connection.paused = False
            self._selector.register(connection.sock, selectors.EVENT_WRITE, connection)
        else:
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)

    def watch_reading(self, connection: Connection) -> None:
        """Wait for input again, after `watch_writing`."""
        self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
