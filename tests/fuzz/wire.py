"""Speaks HTTP byte by byte, so that a test can say what no client library would; and reads whatever comes back."""

import contextlib
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

PATIENCE_SECONDS = 20


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One answer, or the silence of a closed connection: then `status` is 0."""

    status: int
    headers: dict[str, str]
    raw: bytes
    seconds: float

    @property
    def body(self) -> Any:
        """The body as JSON."""
        return json.loads(self.raw)

    @property
    def refusal(self) -> tuple[int, int, str]:
        """Status, code and reason."""
        error = self.body["error"]
        return self.status, error["code"], error["details"]["reason"]


def request(
    method: str,
    target: str | bytes,
    *headers: str | bytes,
    body: bytes = b"",
    length: bool = True,
    host: bool = True,
    version: str = "1.1",
) -> bytes:
    """Write a request. The only headers added are Host and the length of a body."""
    lines = [b" ".join([method.encode(), target if isinstance(target, bytes) else target.encode(), f"HTTP/{version}".encode()])]
    if host:
        lines.append(b"Host: 127.0.0.1")
    lines += [header if isinstance(header, bytes) else header.encode() for header in headers]
    if body and length:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", b""]) + body


def chunked(*pieces: bytes) -> bytes:
    """Write a body in chunks."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (*pieces, b""))


class RawConnection:
    """One connection to the server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self._unread = b""
        self.began = time.perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, raw: bytes) -> None:
        """Send bytes; ignore a server that has stopped reading: its answer may have been sent before."""
        with contextlib.suppress(ConnectionError):
            self._socket.sendall(raw)

    def close_writing(self) -> None:
        """Say that nothing more will be sent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def reply(self, *, head_only: bool = False) -> Reply:
        """Read one answer."""
        head = self._until(b"\r\n\r\n")
        if not head:
            return Reply(status=0, headers={}, raw=b"", seconds=time.perf_counter() - self.began)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        status = int(first.split()[1])
        length = 0 if head_only or status < 200 or status == 204 else int(headers.get("content-length", "0"))
        raw = self._exactly(length) if "transfer-encoding" not in headers else self._chunks()
        return Reply(status=status, headers=headers, raw=raw, seconds=time.perf_counter() - self.began)

    def closed(self) -> bool:
        """Tell whether the server closes the connection, with nothing more to read."""
        self._socket.settimeout(2)
        try:
            return not self._unread and self._more() == b""
        except TimeoutError:
            return False

    def _more(self) -> bytes:
        try:
            return self._socket.recv(65536)
        except ConnectionError:
            return b""

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._unread:
            if not (more := self._more()):
                return b""
            self._unread += more
        head, _, self._unread = self._unread.partition(mark)
        return head

    def _exactly(self, length: int) -> bytes:
        while len(self._unread) < length:
            if not (more := self._more()):
                break
            self._unread += more
        raw, self._unread = self._unread[:length], self._unread[length:]
        return raw

    def _chunks(self) -> bytes:
        pieces = []
        while size := int(self._until(b"\r\n") or b"0", 16):
            pieces.append(self._exactly(size))
            self._exactly(2)
        self._exactly(2)
        return b"".join(pieces)


def exchange(port: int, raw: bytes | Sequence[bytes], *, head_only: bool = False) -> Reply:
    """Send a request on a new connection, and read the answer."""
    with RawConnection(port) as line:
        for piece in [raw] if isinstance(raw, bytes) else raw:
            line.send(piece)
        return line.reply(head_only=head_only)
