"""Sends responses, from a thread or from the event loop, and decides what becomes of the connection."""

import contextlib
import socket
import time
from collections.abc import Callable

from basket_project.http_server.connection_table import ConnectionTable
from basket_project.http_server.connections import Connection, Phase
from basket_project.http_server.limits import Limits
from basket_project.http_server.requests import Head
from basket_project.http_server.responses import Headers, render_response
from basket_project.http_server.return_queue import ReturnQueue

# A client that is refused while it sends has this long to read the response.
_LINGER_SECONDS = 5


class ResponseWriter:
    """Writes responses.

    :param on_idle: called with a connection that waits for its next request.
    """

    def __init__(self, table: ConnectionTable, returned: ReturnQueue, limits: Limits, *, on_idle: Callable[[Connection], None]) -> None:
        self._table = table
        self._returned = returned
        self._limits = limits
        self._on_idle = on_idle
        self.date = ""  # The value of the header `Date`.
        self.stopping = False  # Each response is the last one of its connection.

    # --- In any thread --------------------------------------------------------------

    def render(self, connection: Connection, head: Head | None, status: str | int, headers: Headers, body: bytes) -> tuple[bytes, bool]:
        """Render a response.

        :returns: its bytes, and whether the connection stays open.
        """
        keep = connection.keep_alive and not self.stopping
        head_only, minor = (head.method == "HEAD", head.minor) if head else (False, 1)
        return render_response(status, headers, body, date=self.date, minor=minor, keep=keep, head_only=head_only), keep

    def send(self, connection: Connection, response: bytes, *, keep: bool, generation: int) -> None:
        """Send as much of a response as the client accepts at once, and hand the connection back if the event loop must continue.

        :param keep: whether the connection stays open.
        :param generation: the connection's, when the request began.
        """
        try:
            sent = connection.sock.send(response)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent, keep = len(response), False
        connection.keep_alive = keep
        if sent < len(response):
            connection.outbox = memoryview(response)[sent:]
        elif keep:
            connection.deadline = time.monotonic() + self._limits.idle_seconds
            connection.phase = Phase.IDLE
        if connection.needs_event_loop():
            self._returned.put_connection(connection, generation)

    def respond(self, connection: Connection, head: Head | None, status: int, headers: Headers, body: bytes) -> None:
        """Render and send the response to the current request of a connection."""
        response, keep = self.render(connection, head, status, headers, body)
        self.send(connection, response, keep=keep, generation=connection.generation)

    # --- In the event loop ----------------------------------------------------------

    def continue_returned(self, connection: Connection) -> None:
        """Continue with a connection that was handed back."""
        if connection.phase is Phase.BUSY:
            self._finish(connection)
        elif connection.peer_closed:
            self._table.close(connection)
        else:
            self._on_idle(connection)

    def _finish(self, connection: Connection) -> None:
        """Send the rest of a thread's response."""
        if not connection.outbox or connection.peer_closed:
            self.end_response(connection)
            return
        connection.transfer_started_at, connection.transferred_bytes = time.monotonic(), 0
        connection.deadline = connection.transfer_started_at + self._limits.body_seconds
        connection.phase = Phase.SENDING
        self._table.watch_writing(connection)
        self._table.count_buffer(connection, len(connection.outbox))

    def continue_sending(self, connection: Connection) -> None:
        """Send as much of the rest as the client accepts now."""
        try:
            sent = connection.sock.send(connection.outbox)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._table.close(connection)
            return
        connection.outbox = connection.outbox[sent:]
        connection.transferred_bytes += sent
        connection.deadline = (
            connection.transfer_started_at + self._limits.body_seconds + connection.transferred_bytes / self._limits.bytes_per_second
        )
        if not connection.outbox:
            self._table.watch_reading(connection)
            self._table.uncount_buffer(connection)
            self.end_response(connection)

    def end_response(self, connection: Connection) -> None:
        """Wait for the next request, or close the connection in a way that lets the client read the response."""
        if connection.peer_closed:
            self._table.close(connection)
        elif connection.keep_alive and not self.stopping:
            connection.deadline = time.monotonic() + self._limits.idle_seconds
            connection.phase = Phase.IDLE
            self._on_idle(connection)
        elif connection.linger or connection.inbox or connection.paused:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            connection.inbox.clear()
            connection.transferred_bytes = 0
            connection.deadline = time.monotonic() + _LINGER_SECONDS
            connection.phase = Phase.LINGERING
            self._table.resume(connection)
        else:
            self._table.close(connection)
