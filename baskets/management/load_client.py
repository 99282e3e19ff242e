"""A crowd of HTTP clients: a closed loop over kept connections, and what it measures. Knows nothing of baskets."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.client import HTTPException
from urllib.parse import urlsplit

LONGEST_HEAD = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """One request to make."""

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """How a request ended.

    :param status: None where no answer came; `body` then says why.
    """

    call: Call
    status: int | None
    body: bytes
    seconds: float


@dataclass(kw_only=True)
class Measured:
    """The times of a crowd's requests, those that failed apart."""

    seconds: float = 0
    times: list[float] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """How many were answered in a second."""
        return len(self.times) / self.seconds if self.seconds else 0

    def percentile(self, share: float) -> float:
        """The time in milliseconds within which this share of the requests was answered."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0


async def send(
    url: str,
    calls: Iterable[Call],
    *,
    clients: int,
    headers: dict[str, str],
    timeout_seconds: float,
    heard: Callable[[Reply], None] = lambda _: None,
) -> Measured:
    """Send all calls, as many at once as there are clients, each client its next one when its last was answered.

    :param heard: is told each reply as it comes; a reply with a status from 500 on, or with none, counts as failed.
    """
    waiting, measured = iter(calls), Measured()

    async def client() -> None:
        line = _Line(url, headers)
        try:
            for call in waiting:
                reply = await _ask(line, call, timeout_seconds)
                if reply.status is None or reply.status >= 500:
                    why = str(reply.status or reply.body.decode(errors="replace"))
                    measured.failed[why] = measured.failed.get(why, 0) + 1
                else:
                    measured.times.append(reply.seconds)
                heard(reply)
        finally:
            await line.leave()

    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    measured.seconds = time.perf_counter() - started
    return measured


async def _ask(line: "_Line", call: Call, timeout_seconds: float) -> Reply:
    started = time.perf_counter()
    try:
        async with asyncio.timeout(timeout_seconds):
            status, body = await line.ask(call)
    except (OSError, EOFError, ValueError, HTTPException, asyncio.LimitOverrunError) as error:
        line.close()
        return Reply(call=call, status=None, body=type(error).__name__.encode(), seconds=time.perf_counter() - started)
    return Reply(call=call, status=status, body=body, seconds=time.perf_counter() - started)


class _Line:
    """One kept connection, and as much of HTTP/1.1 as a client needs that speaks to one server."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._tls = parts.hostname or "", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        named = {"Host": parts.netloc, "Accept": "application/json", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, call: Call) -> tuple[int, bytes]:
        """Send one request and read its answer."""
        if self._streams is None:
            tls = ssl.create_default_context() if self._tls else None
            self._streams = await asyncio.open_connection(self._host, self._port, ssl=tls, limit=LONGEST_HEAD)
        reader, writer = self._streams
        typed = "Content-Type: application/json\r\n" if call.body else ""
        head = f"{call.method} {self._prefix}{call.path} HTTP/1.1\r\n{self._head}{typed}Content-Length: {len(call.body)}\r\n\r\n"
        writer.write(head.encode("latin-1") + call.body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        told = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self._body(reader, told)
        if told.get("connection", "").lower() == "close":
            self.close()
        return int(first.split()[1]), body

    async def _body(self, reader: asyncio.StreamReader, told: dict[str, str]) -> bytes:
        if "content-length" in told:
            return await reader.readexactly(int(told["content-length"]))
        if told.get("transfer-encoding", "").lower() != "chunked":
            message = "an answer without its length"
            raise HTTPException(message)
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
        return body

    async def leave(self) -> None:
        """Close the connection in order."""
        if self._streams:
            writer = self._streams[1]
            self.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def close(self) -> None:
        """Let the connection go; the next request opens another."""
        if self._streams:
            self._streams[1].close()
        self._streams = None
