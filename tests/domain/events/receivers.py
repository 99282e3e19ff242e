"""A receiver of webhooks on the loopback interface, with scripted responses; records what it receives."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.waiting import eventually


@dataclass
class Receiver:
    """What came in, and what is answered: `answer` is given the number of the call, counted from 1.

    :param headers: of each answer.
    :param raw: sent instead of an answer, byte for byte.
    :param hang: waited for before each answer.
    :param hang_after: waited for after each answer, before the connection ends.
    """

    url: str = ""
    answer: Callable[[int], int] = lambda _: 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes = b""
    calls: list[tuple[dict[str, str], str]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    hang: threading.Event | None = None
    hang_after: threading.Event | None = None

    def wait_for(self, count: int) -> None:
        """Wait until so many calls have come in."""
        assert eventually(lambda: len(self.calls) >= count), f"{len(self.calls)} calls came in, and not {count}"

    @property
    def ids(self) -> list[str]:
        """The ids of the messages, in the order they came."""
        return [headers["webhook-id"] for headers, _ in self.calls]


def _answer(handler: BaseHTTPRequestHandler, kept: Receiver, status: int) -> None:
    if kept.raw:
        handler.wfile.write(kept.raw)
        return
    handler.send_response(status)
    for name, value in kept.headers.items():
        handler.send_header(name, value)
    if 300 <= status < 400:
        handler.send_header("Location", kept.url + "elsewhere")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@contextmanager
def receiver() -> Iterator[Receiver]:
    """Run a receiver for a while."""
    kept = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if len(body.encode()) < int(self.headers["Content-Length"]):
                return  # The sender was killed.
            with kept.lock:
                kept.at_once += 1
                kept.most_at_once = max(kept.most_at_once, kept.at_once)
                kept.calls.append(({name.lower(): value for name, value in self.headers.items()}, body))
                number = len(kept.calls)
            if kept.hang:
                kept.hang.wait(30)
            status = kept.answer(number)
            with kept.lock:
                kept.at_once -= 1
            _answer(self, kept, status)
            if kept.hang_after:
                kept.hang_after.wait(30)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: Any) -> None:
            """Say nothing of a caller that went away."""

    server = Server(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield kept
    finally:
        for event in (kept.hang, kept.hang_after):
            if event:
                event.set()
        server.shutdown()
        thread.join()
        server.server_close()
