"""The queue from the threads back to the event loop, which it wakes. Handles nothing."""

import contextlib
import socket
from collections import deque
from collections.abc import Iterator

from basket_project.http_server.connections import Connection
from basket_project.http_server.request_queue import QueuedRequest


class ReturnQueue:
    """A thread-safe queue of connections that need the event loop, and of suspended requests to be queued again.

    The event loop waits for `reader`, then calls `clear_wakeup`, then drains. Python writes to `writer` when a signal arrives.
    """

    def __init__(self) -> None:
        self.reader, self.writer = socket.socketpair()
        self.reader.setblocking(False)
        self.writer.setblocking(False)
        self._connections: deque[tuple[Connection, int]] = deque()
        self._requests: deque[QueuedRequest] = deque()
        self._awake = False

    def put_connection(self, connection: Connection, generation: int) -> None:
        """Hand a connection back; see Note [Who touches a connection]."""
        self._connections.append((connection, generation))
        self._wake()

    def put_request(self, request: QueuedRequest) -> None:
        """Hand back a request that is to be handled again."""
        self._requests.append(request)
        self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with contextlib.suppress(BlockingIOError):
                self.writer.send(b"\0")

    def clear_wakeup(self) -> None:
        """Let what is returned from now on wake the event loop again. Call it before draining."""
        with contextlib.suppress(BlockingIOError):
            while self.reader.recv(4096):
                pass
        self._awake = False

    def drain_requests(self) -> Iterator[QueuedRequest]:
        """Yield the returned requests. One returned from now on waits for the next round."""
        for _ in range(len(self._requests)):
            yield self._requests.popleft()

    def drain_connections(self) -> Iterator[Connection]:
        """Yield the returned connections that have begun no other request. One returned from now on waits for the next round."""
        for _ in range(len(self._connections)):
            connection, generation = self._connections.popleft()
            if connection.generation == generation:
                yield connection
