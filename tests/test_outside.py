"""Calls to addresses that partners name: what is refused before a byte is sent, and what a call is bounded by."""

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import transaction

from baskets import outside
from baskets.outside import ForbiddenAddress, Unreachable

Serve = Callable[[Callable[[Any], None]], str]


@pytest.fixture
def inside(settings: Any) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves each request by a function, on this machine."""
    servers = []

    def serve(answer: Callable[[Any], None]) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                answer(self)

            do_GET = do_POST  # noqa: N815 (the name is the base class's)

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def reply(status: int, body: bytes = b"", **headers: str) -> Callable[[Any], None]:
    def answer(handler: Any) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


# --- What is refused ---------------------------------------------------------------------


NOT_CALLED = [
    "x",
    "http://example.com/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "https://",
    "https:///path",
    "https://user@example.com/",
    "https://user:secret@example.com/",
    "https://example.com/#part",
    "https://example.com:99999/",
    "https://example.com:0/",
    "https://exämple.com/",
    "https://[::1",
    "https://127.0.0.1/",
    "https://10.1.2.3/",
    "https://192.168.0.1:8443/hook",
    "https://172.16.0.1/",
    "https://169.254.169.254/latest",
    "https://0.0.0.0/",
    "https://100.64.0.1/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[fe80::1]/",
    "https://[fd00::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[ff02::1]/",
    "https://[::]/",
]
ODD = ["", "https://exa mple.com/", "https://example.com/\r\nX: y", "https://example.com/" + "x" * 2000]


@pytest.mark.parametrize("url", NOT_CALLED + ODD)
def test_an_address_that_is_not_public_is_refused_before_anything_is_resolved(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("resolved"))
    with pytest.raises(ForbiddenAddress):
        outside.checked_url(url)
    with pytest.raises(ForbiddenAddress):
        outside.call(url, method="GET", seconds=1, longest=10)


@pytest.mark.parametrize(
    "url", ["https://example.com", "https://example.com:8443/hook?a=b", "https://8.8.8.8/", "https://[2606:4700::1]/x"]
)
def test_a_public_address_is_taken(url: str) -> None:
    assert outside.checked_url(url).geturl() == url


@pytest.mark.parametrize("answers", [["127.0.0.1"], ["8.8.8.8", "10.0.0.1"], ["::1"], ["8.8.8.8", "fe80::1%eth0"], ["2130706433"]])
def test_a_name_is_refused_if_any_of_its_addresses_is_not_public(answers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 443)) for ip in answers])
    monkeypatch.setattr(outside.HTTPSConnection, "connect", lambda _: pytest.fail("connected"))
    with pytest.raises(ForbiddenAddress):
        outside.call("https://example.com/", method="GET", seconds=1, longest=10)


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = []

    def connect(self: Any) -> None:
        connected.append((self.host, self.port, self.server_hostname, self.assert_hostname))
        raise OSError

    asked = []
    answer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 443))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *_, **__: asked.append(host) or answer)
    monkeypatch.setattr(outside.HTTPSConnection, "connect", connect)
    with pytest.raises(Unreachable):
        outside.call("https://example.com/", method="GET", seconds=1, longest=10)
    assert (asked, connected) == (["example.com"], [("8.8.8.8", 443, "example.com", "example.com")])


def test_nobody_is_called_inside_of_a_transaction(inside: None, db: None) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError):
        outside.call("http://127.0.0.1:9/", method="GET", seconds=1, longest=10)


# --- What a call is bounded by ---------------------------------------------------------------


def test_the_answer_is_returned_whatever_its_status(inside: None, serve: Serve) -> None:
    got: list[Any] = []

    def answer(handler: Any) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        got.append((handler.command, handler.path, handler.headers["Host"], handler.headers["X-Own"], body))
        reply(418, b"teapot")(handler)

    base = serve(answer)
    said = outside.call(f"{base}/a/b?c=d", method="POST", headers={"X-Own": "1"}, body=b"{}", seconds=10, longest=100)
    assert (said.status, said.body) == (418, b"teapot")
    assert got == [("POST", "/a/b?c=d", base.removeprefix("http://"), "1", b"{}")]


def test_a_redirect_is_an_answer_and_not_followed(inside: None, serve: Serve) -> None:
    base = serve(reply(302, Location="http://127.0.0.1:1/"))
    assert outside.call(base, method="GET", seconds=10, longest=10).status == 302


def test_an_answer_that_is_too_long_is_none(inside: None, serve: Serve) -> None:
    base = serve(reply(200, b"x" * 11))
    with pytest.raises(Unreachable, match="longer than 10 bytes"):
        outside.call(base, method="GET", seconds=10, longest=10)
    assert len(outside.call(base, method="GET", seconds=10, longest=11).body) == 11


@pytest.mark.parametrize("part", ["nothing", "head", "body"])
def test_an_answer_that_comes_in_drops_is_cut(inside: None, serve: Serve, part: str) -> None:
    ended = threading.Event()

    def answer(handler: Any) -> None:
        if part == "body":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        elif part == "head":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while part != "nothing" and not ended.wait(0.05):
            handler.wfile.write(b"x")
        ended.wait(30)

    base = serve(answer)
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"within 0\.5 s"):
        outside.call(base, method="GET", seconds=0.5, longest=10_000)
    ended.set()
    assert time.monotonic() - started < 20


SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort"


@pytest.mark.parametrize("rubbish", [b"", b"\x00\x01\x02\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", SHORT])
def test_rubbish_is_no_answer(inside: None, serve: Serve, rubbish: bytes) -> None:
    base = serve(lambda handler: handler.wfile.write(rubbish))
    with pytest.raises(Unreachable):
        outside.call(base, method="GET", seconds=10, longest=100)


def test_nobody_there_is_unreachable(inside: None) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(Unreachable, match="No connection"):
        outside.call(f"http://127.0.0.1:{port}/", method="GET", seconds=1, longest=10)


def test_plain_text_where_tls_was_expected_is_unreachable(inside: None, serve: Serve) -> None:
    base = serve(reply(200))
    with pytest.raises(Unreachable):
        outside.call(base.replace("http:", "https:"), method="GET", seconds=5, longest=10)
