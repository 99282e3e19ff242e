"""Parses HTTP/1.1 requests strictly: refuses requests that two parsers could read differently. Does no input or output."""

import functools
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from basket_project.http_server.limits import CHUNK_OVERHEAD_BYTES, HEADER_FIELDS, Limits

# A line ends with CRLF; a lone LF is read as one, as RFC 9112 (2.2) allows.
EMPTY_LINES = re.compile(rb"(?:\r?\n)+")
END_OF_HEAD = re.compile(rb"\n\r?\n")
_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([^\x00-\x20\x7f]+) HTTP/1\.([01])")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_LENGTH = re.compile(r"[0-9]{1,18}")
_ABSOLUTE = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})(?:;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_TRAILER = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*)?\r\n")
_MAX_CHUNK_LINE_BYTES = 1024
# The path for targets without a resource: `*`, or an authority to connect to.
_UNROUTABLE_PATH = "//"
_UNPREFIXED = ("CONTENT_LENGTH", "CONTENT_TYPE")


class BadRequest(Exception):
    """The request is refused before it reaches the application.

    :param reason: the slug that names the error response.
    """

    def __init__(self, reason: str = "bad_request") -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Head:
    """The request line and the header fields.

    :param headers: the fields under their WSGI names.
    :param length: the announced length of the body; None if it is chunked.
    :param keep_alive: whether another request may follow on the connection.
    :param expects_continue: whether the client waits for "100 Continue" before it sends the body.
    """

    method: str
    path: str
    query: str
    minor: int
    headers: dict[str, str]
    length: int | None
    keep_alive: bool
    expects_continue: bool


@functools.lru_cache(maxsize=1024)
def _wsgi_name(name: str) -> str | None:
    """Return the WSGI name of a header; None for a name with an underscore, which could pose as another header and is dropped.

    :raises BadRequest: the name contains an invalid character.
    """
    if not _NAME.fullmatch(name):
        raise BadRequest
    if "_" in name:
        return None
    upper = name.upper().replace("-", "_")
    return upper if upper in _UNPREFIXED else f"HTTP_{upper}"


def parse_head(raw: bytes, limits: Limits) -> Head:
    """Parse the head of a request.

    :param raw: the head without the empty line that ends it.
    :raises BadRequest: the head is invalid, or exceeds a limit.
    """
    text = raw.decode("latin-1").replace("\r\n", "\n")
    line, _, fields = text.partition("\n")
    if len(line) > limits.target_bytes:
        raise BadRequest("uri_too_long")
    if len(fields) > limits.head_bytes:
        raise BadRequest("header_too_large")
    if _CONTROL.search(text) or not (parts := _REQUEST_LINE.fullmatch(line)):
        raise BadRequest
    method, target, minor = parts[1], parts[2], int(parts[3])
    headers = _parse_fields(fields, limits)
    if "HTTP_HOST" not in headers:
        raise BadRequest
    path, query = _split_target(method, target)
    length = _framing(headers, minor)
    options = headers["HTTP_CONNECTION"].lower() if "HTTP_CONNECTION" in headers else ""
    return Head(
        method=method,
        path=path,
        query=query,
        minor=minor,
        headers=headers,
        length=length,
        keep_alive="close" not in options if minor else "keep-alive" in options,
        expects_continue=minor == 1 and headers.get("HTTP_EXPECT", "").lower() == "100-continue",
    )


def _parse_fields(fields: str, limits: Limits) -> dict[str, str]:
    headers: dict[str, str] = {}
    lines = fields.split("\n") if fields else []
    if len(lines) > HEADER_FIELDS:
        raise BadRequest("header_too_large")
    limit_by_name, default_limit = limits.headers, limits.header_bytes
    for line in lines:
        raw_name, colon, value = line.partition(":")
        if not colon:
            raise BadRequest
        name = _wsgi_name(raw_name)
        if name is None:
            continue
        value = value.strip(" \t")
        if name in headers:
            if name == "CONTENT_LENGTH" and value == headers[name]:
                continue
            if name == "HTTP_HOST":
                raise BadRequest
            value = f"{headers[name]}{'; ' if name == 'HTTP_COOKIE' else ','}{value}"
        if len(value) > limit_by_name.get(name, default_limit):
            raise BadRequest("header_too_large")
        headers[name] = value
    return headers


def _split_target(method: str, target: str) -> tuple[str, str]:
    """Return path and query in WSGI form: bytes as Latin-1, the path percent-decoded once."""
    if not target.isascii():
        try:
            target.encode("latin-1").decode()
        except UnicodeDecodeError:
            raise BadRequest from None
    if absolute := _ABSOLUTE.match(target):
        target = target[absolute.end() :]
        target = target if target.startswith("/") else f"/{target}"
    elif not target.startswith("/"):
        if target == "*" or method == "CONNECT":
            return _UNROUTABLE_PATH, ""
        raise BadRequest
    target = target.partition("#")[0]
    path, _, query = target.partition("?")
    if "%" in path:
        path = unquote_to_bytes(path.encode("latin-1")).decode("latin-1")
    return path, query


def _framing(headers: dict[str, str], minor: int) -> int | None:
    """Return the length of the body; None for chunks.

    A request with both a length and chunks is refused: a client that means the length would wait for an answer as long as the server
    waits for chunks, and a proxy that reads the length sees another end of the request. Source: RFC 9112, 6.1 and 6.3.

    :raises BadRequest: the end of the body is ambiguous or unreadable.
    """
    coding, length = headers.get("HTTP_TRANSFER_ENCODING"), headers.get("CONTENT_LENGTH")
    if length is not None and not _LENGTH.fullmatch(length):
        raise BadRequest
    if coding is None:
        return int(length or 0)
    if coding.lower() != "chunked" or length is not None or not minor:
        raise BadRequest
    # The application receives the whole body with a Content-Length.
    del headers["HTTP_TRANSFER_ENCODING"]
    return None


class ChunkedBody:
    """Decodes a chunked body incrementally, consuming the given buffer.

    :param limit: bytes of data; more data ends the decoding with `too_large`.
    """

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self.too_large = False
        self._limit = limit
        self._step = self._read_size
        self._left = 0  # Bytes of the current chunk not received yet.
        self._overhead = 0
        self._done = False

    def feed(self, buffer: bytearray) -> bool:
        """Consume received bytes; returns whether the body is complete or too large.

        :raises BadRequest: the framing is invalid.
        """
        at = 0
        while not self._done and (taken := self._step(buffer, at)):
            at += taken
        del buffer[:at]
        return self._done

    # Each step returns the number of bytes it consumed; 0 if it needs more.

    def _read_size(self, buffer: bytearray, at: int) -> int:
        if line := self._line(buffer, at):
            if not (size := _CHUNK.fullmatch(line)):
                raise BadRequest
            self._left = int(size[1], 16)
            self._step = self._read_data if self._left else self._skip_trailer
        return len(line)

    def _read_data(self, buffer: bytearray, at: int) -> int:
        piece = buffer[at : at + self._left]
        self.data += piece
        self._left -= len(piece)
        if not self._left:
            self._step = self._skip_line_break
        self.too_large = self._done = len(self.data) > self._limit
        return len(piece)

    def _skip_line_break(self, buffer: bytearray, at: int) -> int:
        end = buffer[at : at + 2]
        if not b"\r\n".startswith(end):
            raise BadRequest
        if len(end) < 2:
            return 0
        self._step = self._read_size
        return 2

    def _skip_trailer(self, buffer: bytearray, at: int) -> int:
        """Skip a trailer field: the service uses none."""
        line = self._line(buffer, at)
        if line and not _TRAILER.fullmatch(line):
            raise BadRequest
        self._done = line == b"\r\n"
        return len(line)

    def _line(self, buffer: bytearray, at: int) -> bytes:
        """Return the next line; empty while it is incomplete."""
        line = bytes(buffer[at : buffer.find(b"\n", at) + 1])
        if len(line) > _MAX_CHUNK_LINE_BYTES or (not line and len(buffer) - at > _MAX_CHUNK_LINE_BYTES):
            raise BadRequest
        self._overhead += len(line)
        if self._overhead > CHUNK_OVERHEAD_BYTES:
            raise BadRequest
        return line
