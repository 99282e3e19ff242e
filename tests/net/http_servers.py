"""Servers on this machine that answer with scripted bytes, and calls to them."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

import pytest

from baskets.net import http_client

Script = bytes | Callable[[socket.socket, bytes], None]


Serve = Callable[[Script], str]


PATIENT = 30.0


class Server:
    """A local server that handles each connection by a script and then closes it."""

    def __init__(self, script: Script, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.script, self.tls = script, tls
        self.listening = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.port = self.listening.getsockname()[1]
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        """Serve until the listening socket is shut down."""
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), client:  # The client may close the connection.
                client.settimeout(PATIENT)
                self.answer(client)

    def answer(self, client: socket.socket) -> None:
        """Read a request and run the script."""
        if self.tls:
            client = self.tls.wrap_socket(client, server_side=True)
        with client:
            request = b""
            while b"\r\n\r\n" not in request:
                if not (more := client.recv(65536)):
                    return
                request += more
            if isinstance(self.script, bytes):
                # Closing a connection with unread data resets it, and the response may be lost.
                head, _, body = request.partition(b"\r\n\r\n")
                length = re.search(rb"Content-Length: ([0-9]+)", head)
                while length and len(body) < int(length[1]):
                    body += client.recv(65536)
                client.sendall(self.script)
            else:
                self.script(client, request)

    def close(self) -> None:
        """Shut the server down."""
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(PATIENT)


def slowly(start: bytes, drop: bytes) -> Callable[[socket.socket, bytes], None]:
    """Return a script that sends `start`, then `drop` every 50 ms for 6 s: the wait of a client without a deadline."""

    def script(client: socket.socket, _: bytes) -> None:
        client.sendall(start)
        client.settimeout(0.05)
        for _ in range(120):
            with contextlib.suppress(TimeoutError):
                if not client.recv(1):
                    return
            client.sendall(drop)

    return script


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str, port: int = 443) -> list[str]:
    """Let every name resolve to these IP addresses, and return the list of names that were looked up."""
    names: list[str] = []

    def getaddrinfo(host: str, *_: Any, **__: Any) -> list[Any]:
        names.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses]

    monkeypatch.setattr(http_client.socket, "getaddrinfo", getaddrinfo)
    return names


def status_of(url: str, *, seconds: float = PATIENT, **options: Any) -> int:
    """Send a request as webhooks do, without reading the body."""
    return http_client.send_request(url, method="POST", body=b"{}", timeout_seconds=seconds, **options).status
