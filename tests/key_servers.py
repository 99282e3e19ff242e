"""Servers of issuers on this machine: they publish keys, well or badly, and count the calls."""

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.tokens import KeyPair

# On a busy machine even a call to itself may take long.
PATIENT = 30.0


@dataclass
class Issuer:
    """An issuer's server: it answers as the test says, and counts the calls."""

    url: str = ""
    answer: Callable[[Any], None] = field(default=lambda _: None)
    calls: int = 0
    requests: list[Any] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    def publish(self, *pairs: KeyPair) -> None:
        """Publish these keys from now on."""
        self.say(json.dumps({"keys": [pair.jwk for pair in pairs]}).encode())

    def say(self, body: bytes, *, status: int = 200, **headers: str) -> None:
        """Answer this from now on."""

        def answer(handler: Any) -> None:
            handler.send_response(status)
            for name, value in headers.items():
                handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(body)))
            handler.end_headers()
            handler.wfile.write(body)

        self.answer = answer

    def hold_back(self) -> None:
        """Answer as before, but not until the gate is opened."""
        self.gate.clear()
        answer = self.answer

        def late(handler: Any) -> None:
            self.gate.wait(PATIENT)
            answer(handler)

        self.answer = late


@contextmanager
def serving_keys() -> Iterator[Issuer]:
    """Run the server of an issuer."""
    made = Issuer()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.calls += 1
            made.requests.append((self.path, self.headers["Authorization"]))
            try:
                made.answer(self)
            except OSError:
                return  # The service has hung up, as it should.

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}/keys"
    yield made
    server.shutdown()
    server.server_close()
