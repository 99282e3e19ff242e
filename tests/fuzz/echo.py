"""Runs the process server with an application that echoes each request: `python -m tests.fuzz.echo PORT SECONDS`."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from basket_project.http_server.limits import Limits
from basket_project.http_server.requests import Head
from basket_project.http_server.supervisor import Supervisor, report_ready
from basket_project.http_server.worker import Worker

BODY_LIMIT = 100_000
LARGE_BYTES = 3_000_000


class EchoPolicy:
    """The least of a front: `/now` is answered by the event loop, `/probe` has a thread to itself."""

    priorities = 2

    def immediate_response(self, head: Head) -> tuple[int, Sequence[tuple[str, str]], bytes] | None:
        """Answer `/now`."""
        return (200, [], read(head.method, head.path, head.query, head.headers, b"")) if head.path == "/now" else None

    def priority(self, _: Head) -> int:
        """Rank a call."""
        return 1

    def is_probe(self, head: Head) -> bool:
        """Tell a probe."""
        return head.path == "/probe"

    def body_limit(self, _: Head) -> int:
        """Tell how many bytes of a body are taken."""
        return BODY_LIMIT

    def error_response(self, reason: str, _: Head | None) -> tuple[int, Sequence[tuple[str, str]], bytes]:
        """Refuse."""
        return 503 if reason == "overloaded" else 400, [], reason.encode()

    def record_wait(self, seconds: float) -> None:
        """Record nothing."""

    def observe(self, *, queued: int, busy: int, in_flight: int, connections: int) -> None:
        """Record nothing."""

    def announce_end(self) -> None:
        """Announce nothing."""

    def end_thread(self) -> None:
        """Nothing was kept."""


def read(method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> bytes:
    """Write what was read of a request."""
    seen = {name: value for name, value in headers.items() if name.startswith("HTTP_") or name == "CONTENT_TYPE"}
    return json.dumps([method, path, query, seen, body.decode("latin-1")]).encode()


def echo(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer what was read; `/slow` later, `/large` with much behind it, `/broken` never."""
    path, body = environ["PATH_INFO"], environ["wsgi.input"].read()
    if path == "/slow":
        time.sleep(0.02)
    if int(environ.get("CONTENT_LENGTH") or 0) > BODY_LIMIT:
        start_response("413 Content Too Large", [])
        return [b""]
    if path == "/broken":
        return FailingBody()
    start_response("200 OK", [])
    answer = read(environ["REQUEST_METHOD"], path, environ["QUERY_STRING"], environ, body)
    return [answer, b" " * LARGE_BYTES] if path == "/large" else [answer]


class FailingBody:
    """An answer that fails when it is read, and again when it is closed."""

    def __iter__(self) -> Iterator[bytes]:
        """Fail."""
        raise RuntimeError

    def close(self) -> None:
        """Fail."""
        raise RuntimeError


def main() -> None:
    """Serve until a signal ends it; everything has so many seconds to come."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    limits = Limits(headers={}, head_seconds=seconds, body_seconds=seconds, idle_seconds=seconds)

    def serve(listener: socket.socket, ready: int, supervisor: int) -> None:
        sys.setswitchinterval(1e-5)  # Threads and event loop take turns as often as they can.
        Worker(listener, echo, EchoPolicy(), threads=4, limits=limits).run(on_ready=lambda: report_ready(ready), supervisor=supervisor)

    sys.exit(Supervisor(host="127.0.0.1", port=port, workers=1, serve=serve, on_end=lambda _: None).run(lifeline=None))


if __name__ == "__main__":
    main()
