"""An open-loop client: sends each request at its own time, however long earlier ones take, over a fixed number of connections."""

import selectors
import socket
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

RECEIVE_BYTES = 65536
END_OF_HEAD, LENGTH = b"\r\n\r\n", b"\r\nContent-Length: "


@dataclass(frozen=True, slots=True)
class TimedRequest:
    """A request and its time.

    :param kind: names a group of requests in the results.
    :param due: seconds after the start of the run.
    :param raw: the bytes to send.
    """

    kind: str
    due: float
    raw: bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one request.

    :param seconds: from its due time to the end of the response, so a wait for a free connection counts.
    :param status: None if no response arrived.
    """

    kind: str
    due: float
    seconds: float
    status: int | None


class _Connection:
    __slots__ = ("buffer", "request", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = b""
        self.request: TimedRequest | None = None


class OpenLoop:
    """Connections of one process; use it as a context manager.

    :param connections: how many stay open. A request that finds none free waits for the next one.
    """

    def __init__(self, host: str, port: int, *, connections: int) -> None:
        self._address = host, port
        self._selector = selectors.DefaultSelector()
        self._open = [self._connect() for _ in range(connections)]
        self._free = deque(self._open)
        self._outcomes: list[Outcome] = []
        self._waiting: deque[TimedRequest] = deque()
        self._started_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            connection.sock.close()
        self._selector.close()

    def _connect(self) -> _Connection:
        connection = _Connection(socket.create_connection(self._address, timeout=5))
        self._prepare(connection)
        return connection

    def _prepare(self, connection: _Connection) -> None:
        connection.sock.setblocking(False)
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(connection.sock, selectors.EVENT_READ, connection)

    def run(self, requests: Sequence[TimedRequest], *, patience_seconds: float = 10) -> list[Outcome]:
        """Send the requests at their times, in the given order.

        :param patience_seconds: how long to wait after the last request; what is unanswered then has no status.
        """
        self._outcomes, self._waiting = [], (waiting := deque(requests))
        self._started_at = time.perf_counter()
        end = (requests[-1].due if requests else 0) + patience_seconds
        while len(self._outcomes) < len(requests) and (now := self._now()) < end:
            while waiting and waiting[0].due <= now and self._free:
                self._send(self._free.popleft(), waiting.popleft())
            # Due requests wait for a connection, so only an event helps; else the next due time.
            pause = waiting[0].due - now if waiting and self._free else 0.1
            for key, _ in self._selector.select(max(0.0, pause)):
                self._receive(key.data)
        busy = [connection for connection in self._open if connection.request]
        for connection in busy:
            self._end(connection, None)
            self._replace(connection)
        self._outcomes += [Outcome(request.kind, request.due, self._now() - request.due, None) for request in waiting]
        return self._outcomes

    def _now(self) -> float:
        return time.perf_counter() - self._started_at

    def _send(self, connection: _Connection, request: TimedRequest) -> None:
        connection.request, connection.buffer = request, b""
        try:
            connection.sock.send(request.raw)
        except OSError:
            self._end(connection, None)
            self._replace(connection)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(RECEIVE_BYTES)
        except OSError:
            data = b""
        if not data:
            if connection.request:
                self._end(connection, None)
            else:
                self._free.remove(connection)
            self._replace(connection, free=True)
            return
        buffer = connection.buffer = connection.buffer + data
        end = buffer.find(END_OF_HEAD)
        if end < 0:
            return
        at = buffer.find(LENGTH, 0, end) + len(LENGTH)
        if len(buffer) < end + len(END_OF_HEAD) + int(buffer[at : buffer.find(b"\r", at)]):
            return
        self._end(connection, int(buffer[9:12]))

    def _end(self, connection: _Connection, status: int | None) -> None:
        request, connection.request = connection.request, None
        assert request
        self._outcomes.append(Outcome(request.kind, request.due, self._now() - request.due, status))
        if status is not None:
            self._free.append(connection)

    def _replace(self, connection: _Connection, *, free: bool = True) -> None:
        """Open a closed connection again."""
        self._selector.unregister(connection.sock)
        connection.sock.close()
        connection.sock = socket.create_connection(self._address, timeout=5)
        self._prepare(connection)
        if free:
            self._free.append(connection)


def raw_request(method: str, path: str, *, host: str, key: str, body: bytes = b"", idempotency: str = "") -> bytes:
    """Render a request with an API key.

    :param idempotency: the `Idempotency-Key`; none if empty.
    """
    head = f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nX-API-Key: {key}\r\n"
    if idempotency:
        head += f"Idempotency-Key: {idempotency}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n".encode() + body


def percentile(seconds: Iterable[float], share: float) -> float:
    """Return the time in milliseconds within which this share of the requests ended; 0 for none."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0.0
