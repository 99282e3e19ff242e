"""Reads connections and assembles whole requests. Answers nothing."""

import contextlib
import time
from collections.abc import Callable

from basket_project.http_server.connection_table import ConnectionTable
from basket_project.http_server.connections import Connection, Phase
from basket_project.http_server.limits import Limits
from basket_project.http_server.requests import EMPTY_LINES, END_OF_HEAD, BadRequest, ChunkedBody, Head, parse_head
from basket_project.http_server.responses import CONTINUE

_READ_BYTES = 64 * 1024
# Input read ahead while a request is being handled.
_READ_AHEAD_BYTES = 64 * 1024
# A client that is refused while it sends has this many bytes to read the response.
_LINGER_BYTES = 16 * 1024 * 1024


class RequestReader:
    """Reads requests in the event loop.

    :param body_limit: returns how many bytes of a body the application accepts.
    :param on_request: called with each whole request: its connection, head and body.
    :param on_bad_request: called with the connection of an invalid request, and the reason.
    """

    def __init__(
        self,
        table: ConnectionTable,
        limits: Limits,
        *,
        body_limit: Callable[[Head], int],
        on_request: Callable[[Connection, Head, bytes], None],
        on_bad_request: Callable[[Connection, str], None],
    ) -> None:
        self._table = table
        self._limits = limits
        self._body_limit = body_limit
        self._on_request = on_request
        self._on_bad_request = on_bad_request

    def read(self, connection: Connection) -> None:
        """Read what has arrived, as far as the phase allows."""
        if connection.phase is Phase.IDLE and len(connection.inbox) > _READ_AHEAD_BYTES:
            return  # Requests already received are handled first.
        try:
            data = connection.sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._on_peer_closed(connection)
            return
        if connection.phase is Phase.LINGERING:
            connection.transferred_bytes += len(data)
            if connection.transferred_bytes > _LINGER_BYTES:
                self._table.close(connection)
            return
        connection.inbox += data
        if connection.phase is not Phase.BUSY:
            self._advance(connection)
        elif len(connection.inbox) > _READ_AHEAD_BYTES:
            self._table.pause(connection)
            if connection.phase is not Phase.BUSY:  # See Note [Who touches a connection].
                self.resume(connection)

    def _on_peer_closed(self, connection: Connection) -> None:
        if connection.phase is not Phase.BUSY:
            self._table.close(connection)
            return
        self._table.mark_peer_closed(connection)
        if connection.phase is not Phase.BUSY:  # See Note [Who touches a connection].
            self._table.close(connection)

    def resume(self, connection: Connection) -> None:
        """Read the next request of an idle connection, which may have arrived already."""
        self._table.resume(connection)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Parse the received bytes as far as possible."""
        try:
            if connection.phase is Phase.IDLE:
                self._begin_request(connection)
            if connection.phase is Phase.HEAD:
                self._read_head(connection)
            if connection.phase is Phase.BODY:
                self._read_body(connection)
        except BadRequest as refused:
            self._on_bad_request(connection, refused.reason)

    def _begin_request(self, connection: Connection) -> None:
        inbox = connection.inbox
        if inbox.startswith((b"\r", b"\n")) and (empty := EMPTY_LINES.match(inbox)):
            del inbox[: empty.end()]
        if inbox and inbox != b"\r":
            connection.head, connection.scanned_bytes = None, 0
            connection.deadline = time.monotonic() + self._limits.head_seconds
            connection.phase = Phase.HEAD

    def _read_head(self, connection: Connection) -> None:
        inbox, limits = connection.inbox, self._limits
        end = END_OF_HEAD.search(inbox, connection.scanned_bytes)
        longest = limits.target_bytes + limits.head_bytes
        if end is None or end.start() > longest:
            connection.scanned_bytes = max(0, len(inbox) - 2)
            if inbox.find(b"\n", 0, limits.target_bytes) < 0 and len(inbox) > limits.target_bytes:
                raise BadRequest("uri_too_long")
            if len(inbox) > longest:
                raise BadRequest("header_too_large")
            self._table.count_buffer(connection, len(inbox) - connection.buffered_bytes)
            return
        raw = bytes(inbox[: end.start()])
        del inbox[: end.end()]
        head = connection.head = parse_head(raw.removesuffix(b"\r"), limits)
        connection.keep_alive = head.keep_alive
        limit = self._body_limit(head)
        if head.length == 0:
            self._on_request(connection, head, b"")
        elif head.length is not None and head.length > limit:
            self._hand_over_without_body(connection, head)
        elif head.length is not None and len(inbox) >= head.length:
            self._consume_body(connection, head)
        else:
            if head.expects_continue and not inbox:
                with contextlib.suppress(OSError):
                    connection.sock.send(CONTINUE)
            connection.body = ChunkedBody(limit) if head.length is None else None
            connection.transfer_started_at, connection.transferred_bytes = time.monotonic(), 0
            connection.deadline = connection.transfer_started_at + limits.body_seconds
            connection.phase = Phase.BODY

    def _read_body(self, connection: Connection) -> None:
        head, inbox, chunks = connection.head, connection.inbox, connection.body
        assert head is not None  # noqa: S101 (for the type alone)
        waiting = len(inbox)
        if chunks is not None:
            whole = chunks.feed(inbox)
            size = len(chunks.data) + len(inbox)
            if whole:
                connection.body = None
                if chunks.too_large:
                    head.headers["CONTENT_LENGTH"] = str(len(chunks.data))
                    head.length = len(chunks.data)
                    self._hand_over_without_body(connection, head)
                else:
                    self._on_request(connection, head, bytes(chunks.data))
                return
        elif head.length is not None and waiting >= head.length:
            self._consume_body(connection, head)
            return
        else:
            size = waiting
        connection.deadline = connection.transfer_started_at + self._limits.body_seconds + size / self._limits.bytes_per_second
        self._table.count_buffer(connection, size - connection.buffered_bytes)

    def _consume_body(self, connection: Connection, head: Head) -> None:
        body = bytes(connection.inbox[: head.length])
        del connection.inbox[: head.length]
        self._on_request(connection, head, body)

    def _hand_over_without_body(self, connection: Connection, head: Head) -> None:
        """Hand over a request with an oversized body, which the application refuses by its length; the body is discarded."""
        connection.keep_alive, connection.linger = False, True
        connection.inbox.clear()
        self._on_request(connection, head, b"")
