"""Requests to URLs that partners configure: checked addresses, the deciding status line, and the limits of time and size."""

import contextlib
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import transaction

from baskets.net import http_client, kept_connections
from baskets.net.http_client import RequestFailed
from baskets.net.kept_connections import KeptConnections
from baskets.net.outgoing_urls import ForbiddenUrl, origin_of, validate_url
from baskets.net.watchdog import shut_down

Script = bytes | Callable[[socket.socket, bytes], None]
Serve = Callable[[Script], str]
PATIENT = 30.0


@pytest.fixture
def internal_addresses_allowed(settings: Any) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True


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


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a local server and return its URL."""
    servers: list[Server] = []

    def serve(script: Script) -> str:
        servers.append(Server(script))
        return f"http://127.0.0.1:{servers[-1].port}"

    yield serve
    for server in servers:
        server.close()


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


# --- The connection ----------------------------------------------------------------------


@pytest.mark.parametrize("answers", [["8.8.8.8", "10.0.0.1"], ["8.8.8.8", "fe80::1%eth0"], ["2130706433"]])
def test_name_is_refused_if_any_of_its_addresses_is_not_public(answers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, *answers)
    monkeypatch.setattr(http_client.HTTPSConnection, "connect", lambda _: pytest.fail("connected"))
    with pytest.raises(ForbiddenUrl):
        http_client.send_request("https://example.com/", method="GET", timeout_seconds=1)


def test_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    connected = []

    def connect(self: Any) -> None:
        connected.append((self.host, self.port, self.server_hostname, self.ssl_context.check_hostname, self.ssl_context.verify_mode))
        raise OSError

    names = resolve_to(monkeypatch, "8.8.8.8", "9.9.9.9")
    monkeypatch.setattr(http_client.HTTPSConnection, "connect", connect)
    with pytest.raises(RequestFailed, match="No connection: OSError"):
        http_client.send_request("https://example.com./", method="GET", timeout_seconds=1)
    assert names == ["example.com"]
    assert connected == [(address, 443, "example.com", True, ssl.CERT_REQUIRED) for address in ("8.8.8.8", "9.9.9.9")]


def test_next_address_of_a_name_is_tried_if_one_refuses(
    internal_addresses_allowed: None, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(serve(b"HTTP/1.1 200 OK\r\n\r\n").rpartition(":")[2])
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1", port=port)
    assert status_of(f"http://example.com:{port}/") == 200


def test_attempts_to_connect_share_one_deadline(internal_addresses_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a hundred silent addresses costs no more than one."""
    attempts = []

    def connect(self: Any) -> None:
        attempts.append(self.timeout)
        time.sleep(self.timeout)
        raise TimeoutError

    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(http_client.HTTPConnection, "connect", connect)
    resolve_to(monkeypatch, *["127.0.0.1"] * 100)
    with pytest.raises(RequestFailed, match="No connection: TimeoutError"):
        http_client.send_request("http://example.com/", method="GET", timeout_seconds=1)
    assert len(attempts) == 1
    assert 0 < attempts[0] <= 0.2


def test_hanging_resolver_is_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(http_client.socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    started = time.monotonic()
    with pytest.raises(RequestFailed, match="has no address"):
        http_client.send_request("https://example.com/", method="GET", timeout_seconds=1)
    assert time.monotonic() - started < 4
    answered.set()


@pytest.mark.parametrize("error", [socket.gaierror("unknown"), UnicodeError("label too long")])
def test_unresolvable_host_fails(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(http_client.socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(RequestFailed, match="has no address"):
        http_client.send_request("https://example.com/", method="GET", timeout_seconds=1)


def test_request_inside_a_transaction_raises(internal_addresses_allowed: None, db: None) -> None:
    with transaction.atomic(), pytest.raises(RuntimeError):
        http_client.send_request("http://127.0.0.1:9/", method="GET", timeout_seconds=1)


def test_closed_port_fails(internal_addresses_allowed: None) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(RequestFailed, match="No connection"):
        http_client.send_request(f"http://127.0.0.1:{port}/", method="GET", timeout_seconds=1)


def test_plain_text_from_a_tls_url_fails(internal_addresses_allowed: None, serve: Serve) -> None:
    base = serve(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(RequestFailed):
        http_client.send_request(base.replace("http:", "https:"), method="GET", timeout_seconds=5)


def test_ipv6_literal_is_called_with_its_brackets_in_host(internal_addresses_allowed: None) -> None:
    requests: list[bytes] = []

    def script(client: socket.socket, request: bytes) -> None:
        requests.append(request)
        if not request.endswith(b"{}"):
            client.recv(100)
        client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    server = Server(script, host="::1")
    try:
        assert status_of(f"http://[::1]:{server.port}/") == 204
    finally:
        server.close()
    assert f"\r\nHost: [::1]:{server.port}\r\n".encode() in requests[0]


# --- TLS -----------------------------------------------------------------------------------


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """The TLS context of a server with a certificate for hooks.example.com and 127.0.0.1 that this process trusts."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "other.example.com")])
    names = [x509.DNSName("hooks.example.com"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    public.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    private.write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    http_client._tls_context.cache_clear()
    yield context
    http_client._tls_context.cache_clear()


@pytest.mark.parametrize("host", ["hooks.example.com", "HOOKS.example.com.", "127.0.0.1"])
def test_certificate_for_the_host_is_accepted(
    internal_addresses_allowed: None, tls: ssl.SSLContext, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(b"HTTP/1.1 204 No Content\r\n\r\n", tls=tls)
    resolve_to(monkeypatch, "127.0.0.1", port=server.port)
    try:
        assert status_of(f"https://{host}:{server.port}/") == 204
    finally:
        server.close()


@pytest.mark.parametrize(("host", "trusted"), [("other.example.com", True), ("127.0.0.2", True), ("hooks.example.com", False)])
def test_other_certificate_is_refused(
    internal_addresses_allowed: None,
    tls: ssl.SSLContext,
    host: str,
    trusted: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For another name (the common name does not count), for another IP address, and from an unknown authority."""
    if not trusted:
        monkeypatch.delenv("SSL_CERT_FILE")
    requests = []
    server = Server(lambda _, request: requests.append(request), tls=tls)
    resolve_to(monkeypatch, "127.0.0.1", port=server.port)
    try:
        with pytest.raises(RequestFailed, match="No connection: SSLCertVerificationError"):
            status_of(f"https://{host}:{server.port}/")
    finally:
        server.close()
    assert requests == []


def test_deadline_holds_over_tls(internal_addresses_allowed: None, tls: ssl.SSLContext) -> None:
    server = Server(slowly(b"HTTP/1.1 ", b"1"), tls=tls)
    started = time.monotonic()
    try:
        with pytest.raises(RequestFailed, match=r"within 0\.5 s"):
            status_of(f"https://127.0.0.1:{server.port}/", seconds=0.5)
        assert time.monotonic() - started < 4
    finally:
        server.close()


def test_shut_down_connection_stays_encrypted(internal_addresses_allowed: None, tls: ssl.SSLContext) -> None:
    """Another thread may be sending when the watchdog shuts the socket down."""
    server = Server(b"", tls=tls)
    try:
        connection = http_client._connect(validate_url(f"https://127.0.0.1:{server.port}/"))
        with contextlib.closing(connection):
            shut_down(connection)
            assert connection.version() == "TLSv1.3"
            with pytest.raises(ssl.SSLError):
                connection.send(b"in clear")
    finally:
        server.close()


# --- The status decides --------------------------------------------------------------------


OK = b"HTTP/1.1 200 OK\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
DECIDED = {
    "length": (200, OK + b"Content-Length: 2\r\n\r\nok"),
    "no body": (204, b"HTTP/1.1 204 No Content\r\n\r\n"),
    "body of 204": (204, b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody"),
    "HTTP/1.0": (200, b"HTTP/1.0 200 OK\r\n\r\nok"),
    "HTTP/2 in text": (200, b"HTTP/2 200\r\n\r\nok"),
    "no reason": (202, b"HTTP/1.1 202\r\n\r\n"),
    "no reason, blank": (202, b"HTTP/1.1 202 \r\n\r\n"),
    "reason in Latin-1": (200, b"HTTP/1.1 200 \xe9t\xe9\r\n\r\n"),
    "line feeds": (201, b"HTTP/1.1 201 Created\ncontent-length: 0\n\n"),
    "lower case": (200, OK + b"content-length: 2\r\nconnection: close\r\n\r\nok"),
    "connection: close": (200, OK + b"Connection: close\r\n\r\nno length"),
    "no head": (200, OK),
    "no line end": (200, b"HTTP/1.1 200"),
    "100 first": (200, b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"\r\n"),
    "102 and 103 first": (200, b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS * 3 + OK + b"\r\n"),
    "103 before 410": (410, HINTS + b"HTTP/1.1 410 Gone\r\n\r\n"),
    "103 with a length": (200, b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n" + OK + b"\r\n"),
    "long body": (200, OK + b"Content-Length: 70000\r\n\r\n" + b"x" * 70_000),
    "long body of 410": (410, b"HTTP/1.1 410 Gone\r\nContent-Length: 70000\r\n\r\n" + b"x" * 70_000),
    "cut body": (200, OK + b"Content-Length: 50\r\n\r\nshort"),
    "cut chunks": (200, OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nshort"),
    "wrong chunks": (200, OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"),
    "wrong length": (200, OK + b"Content-Length: many\r\n\r\nbody"),
    "negative length": (200, OK + b"Content-Length: -5\r\n\r\nbody"),
    "two lengths": (200, OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nbody"),
    "endless length": (200, OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nbody"),
    "unknown coding": (200, OK + b"Transfer-Encoding: x, chunked\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08bomb"),
    "no headers in the head": (200, OK + b"\x00\xff no header\r\n: none\r\n\r\n"),
    "head is cut": (200, OK + b"X-Long: abc"),
    "many headers": (200, OK + b"X: y\r\n" * 500 + b"\r\n"),
    "long header": (200, OK + b"X: " + b"y" * 100_000 + b"\r\n\r\n"),
    "redirect": (302, b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"),
    "teapot": (418, b"HTTP/1.1 418 I'm a teapot\r\n\r\n"),
    "unknown status": (999, b"HTTP/1.1 999 What\r\n\r\n"),
}


@pytest.mark.parametrize(("status", "answer"), DECIDED.values(), ids=DECIDED)
def test_status_line_decides_whatever_follows(internal_addresses_allowed: None, serve: Serve, status: int, answer: bytes) -> None:
    reply = http_client.send_request(serve(answer), method="POST", body=b"{}", timeout_seconds=PATIENT)
    assert (reply.status, reply.body) == (status, b"")


UNDECIDED = {
    "nothing": b"",
    "rubbish": b"\x00\x01\x02\r\n\r\n",
    "blank line": b"\r\n" + OK + b"\r\n",
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "page without head": b"<html>200 OK</html>",
    "status is a word": b"HTTP/1.1 abc\r\n\r\n",
    "status is cut": b"HTTP/1.1 20",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "status of zero": b"HTTP/1.1 000 OK\r\n\r\n",
    "only 100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "only 103": HINTS,
    "only 101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n\x00\x00\x12\x04",
    "rubbish after 103": HINTS + b"\x00\x01\r\n\r\n",
    "long status line": b"HTTP/1.1 200 " + b"x" * 100_000,
}


@pytest.mark.parametrize("answer", UNDECIDED.values(), ids=UNDECIDED)
def test_response_without_a_final_status_fails(internal_addresses_allowed: None, serve: Serve, answer: bytes) -> None:
    with pytest.raises(RequestFailed, match="The call failed: "):
        status_of(serve(answer))


def test_unwanted_body_is_not_awaited(internal_addresses_allowed: None, serve: Serve) -> None:
    started = time.monotonic()
    assert status_of(serve(slowly(OK + b"Content-Length: 1000\r\n\r\n", b"x"))) == 200
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("status", [b"200", b"410"])
def test_slow_head_is_cut_off_and_the_status_stays(internal_addresses_allowed: None, serve: Serve, status: bytes) -> None:
    started = time.monotonic()
    assert status_of(serve(slowly(b"HTTP/1.1 " + status + b" X\r\nX-Long: ", b"x")), seconds=0.5) == int(status)
    assert time.monotonic() - started < 4


def test_headers_are_found_in_any_case_and_missing_ones_are_none(internal_addresses_allowed: None, serve: Serve) -> None:
    reply = http_client.send_request(serve(b"HTTP/1.1 503 Busy\r\nretry-after: 17\r\n\r\n"), method="POST", timeout_seconds=PATIENT)
    assert (reply.headers.get("Retry-After"), reply.headers.get("Date")) == ("17", None)
    cut = http_client.send_request(
        serve(b"HTTP/1.1 503 Busy\r\n" + b"X: y\r\n" * 500 + b"Retry-After: 17\r\n\r\n"), method="POST", timeout_seconds=PATIENT
    )
    assert (cut.status, cut.headers.get("Retry-After")) == (503, None)


def test_headers_are_those_of_the_final_response(internal_addresses_allowed: None, serve: Serve) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nRetry-After: 5\r\n\r\n"
    reply = http_client.send_request(serve(hints + b"HTTP/1.1 503 Busy\r\nX-Own: 1\r\n\r\n"), method="POST", timeout_seconds=PATIENT)
    assert reply.headers.items() == [("X-Own", "1")]


def test_response_before_the_end_of_the_request_counts(internal_addresses_allowed: None, serve: Serve) -> None:
    """A receiver that refuses a request after its head may close the connection before reading the rest."""

    def script(client: socket.socket, _: bytes) -> None:
        client.sendall(b"HTTP/1.1 410 Gone\r\n\r\n")

    assert http_client.send_request(serve(script), method="POST", body=b"x" * 20_000_000, timeout_seconds=PATIENT).status == 410


# --- Request and response body -----------------------------------------------------------------


def test_request_and_body_of_the_response_arrive(internal_addresses_allowed: None, serve: Serve) -> None:
    requests = []

    def script(client: socket.socket, request: bytes) -> None:
        while not request.endswith(b"{}"):
            request += client.recv(100)
        requests.append(request)
        client.sendall(HINTS + b"HTTP/1.1 418 Teapot\r\nContent-Length: 6\r\n\r\nteapot")

    base = serve(script)
    reply = http_client.send_request(
        f"{base}/a/b?c=d", method="POST", headers={"X-Own": "1"}, body=b"{}", timeout_seconds=PATIENT, max_body_bytes=100
    )
    assert (reply.status, reply.body) == (418, b"teapot")
    head, _, body = requests[0].partition(b"\r\n\r\n")
    first, *headers = head.decode().split("\r\n")
    assert (first, body) == ("POST /a/b?c=d HTTP/1.1", b"{}")
    assert {f"Host: {base.removeprefix('http://')}", "X-Own: 1", "Content-Length: 2", "Connection: close"} <= set(headers)
    assert len(headers) == len({header.partition(":")[0] for header in headers})


BODIES = {
    "length": OK + b"Content-Length: 10\r\n\r\n0123456789",
    "chunks": OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\n0123\r\n6\r\n456789\r\n0\r\n\r\n",
    "no length": OK + b"\r\n0123456789",
    "line feeds": b"HTTP/1.0 200 OK\n\n0123456789",
    "after 103": HINTS + OK + b"Content-Length: 10\r\n\r\n0123456789",
    "compressed": OK + b"Content-Encoding: gzip\r\nContent-Length: 10\r\n\r\n0123456789",
}


@pytest.mark.parametrize("answer", BODIES.values(), ids=BODIES)
def test_body_is_read_as_it_is_framed_up_to_a_limit(internal_addresses_allowed: None, serve: Serve, answer: bytes) -> None:
    base = serve(answer)
    assert http_client.send_request(base, method="GET", timeout_seconds=PATIENT, max_body_bytes=10).body == b"0123456789"
    with pytest.raises(RequestFailed, match="longer than 9 bytes"):
        http_client.send_request(base, method="GET", timeout_seconds=PATIENT, max_body_bytes=9)


BROKEN = {
    "cut": OK + b"Content-Length: 50\r\n\r\nshort",
    "cut chunks": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nshort",
    "wrong chunks": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "many headers": OK + b"X: y\r\n" * 500 + b"\r\n",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_malformed_response_is_an_error_if_its_body_is_wanted(internal_addresses_allowed: None, serve: Serve, answer: bytes) -> None:
    with pytest.raises(RequestFailed, match="The call failed: "):
        http_client.send_request(serve(answer), method="GET", timeout_seconds=PATIENT, max_body_bytes=100)


# --- The deadline ------------------------------------------------------------------------------


SLOW = {
    "nothing": (b"", b""),
    "status line": (b"HTTP/1.1 ", b"1"),
    "head": (OK + b"X-Long: ", b"x"),
    "body": (OK + b"Content-Length: 1000\r\n\r\n", b"x"),
    "body without length": (OK + b"\r\n", b"x"),
    "interim responses": (HINTS, HINTS),
}


@pytest.mark.parametrize(("start", "drop"), SLOW.values(), ids=SLOW)
def test_slow_response_is_cut_off(internal_addresses_allowed: None, serve: Serve, start: bytes, drop: bytes) -> None:
    base = serve(slowly(start, drop))
    started = time.monotonic()
    with pytest.raises(RequestFailed, match=r"No whole answer within 0\.5 s"):
        http_client.send_request(base, method="GET", timeout_seconds=0.5, max_body_bytes=10_000)
    assert time.monotonic() - started < 4


def test_receiver_that_does_not_read_is_cut_off(internal_addresses_allowed: None, serve: Serve) -> None:
    over = threading.Event()

    def script(client: socket.socket, _: bytes) -> None:
        over.wait(6)

    base = serve(script)
    started = time.monotonic()
    with pytest.raises(RequestFailed, match=r"No whole answer within 0\.5 s"):
        http_client.send_request(base, method="POST", body=b"x" * 20_000_000, timeout_seconds=0.5)
    assert time.monotonic() - started < 4
    over.set()


def test_answer_may_take_as_long_as_the_call_and_not_only_as_long_as_the_connection(
    internal_addresses_allowed: None, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 1.0)

    def script(client: socket.socket, _: bytes) -> None:
        time.sleep(2)
        client.sendall(OK)

    assert status_of(serve(script)) == 200


# --- Kept connections ------------------------------------------------------------------------------


@pytest.fixture
def kept() -> Iterator[KeptConnections]:
    connections = KeptConnections()
    yield connections
    connections.close()


def post(url: str, kept: KeptConnections) -> int:
    return http_client.send_request(url, method="POST", body=b"{}", timeout_seconds=2, kept=kept).status


class KeepingServer(Server):
    """A local server that answers up to `per_connection` requests on each connection."""

    def __init__(self, script: bytes, *, per_connection: int = 100) -> None:
        self.per_connection, self.requests = per_connection, list[int]()
        self.connections = 0
        super().__init__(script)

    def answer(self, client: socket.socket) -> None:
        self.connections += 1
        for _ in range(self.per_connection):
            request = b""
            while not request.endswith(b"{}"):
                if not (chunk := client.recv(65536)):
                    return
                request += chunk
            self.requests.append(self.connections)
            assert isinstance(self.script, bytes)
            client.sendall(self.script)


KEPT = {
    "no body": b"HTTP/1.1 204 No Content\r\n\r\n",
    "empty body": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "short body": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    "a failure": b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
    "an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}
NOT_KEPT = {
    "announced end": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "body cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok",
    "no end": b"HTTP/1.1 200 OK\r\n\r\nok",
    "long body": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100000),
    "malformed headers after an interim response": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n" + 101 * b"X: y\r\n" + b"\r\n",
    "broken chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize(
    ("answer", "connections"), [(a, 1) for a in KEPT.values()] + [(a, 3) for a in NOT_KEPT.values()], ids=[*KEPT, *NOT_KEPT]
)
def test_connection_is_used_again_after_a_whole_response(
    internal_addresses_allowed: None, kept: KeptConnections, answer: bytes, connections: int
) -> None:
    server = KeepingServer(answer)
    statuses = {post(f"http://127.0.0.1:{server.port}/", kept) for _ in range(3)}
    assert len(statuses) == 1
    assert server.connections == connections
    server.listening.close()


def test_closed_kept_connection_is_replaced_and_no_request_fails(
    internal_addresses_allowed: None, kept: KeptConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = KeepingServer(KEPT["short body"], per_connection=2)
    assert [post(f"http://127.0.0.1:{server.port}/", kept) for _ in range(4)] == [200] * 4
    # The receiver closes at the moment of the request, when the connection still looks open.
    monkeypatch.setattr(kept_connections, "wait_for_read", lambda *_, **__: False)
    assert [post(f"http://127.0.0.1:{server.port}/", kept) for _ in range(4)] == [200] * 4
    assert server.requests == [1, 1, 2, 2, 3, 3, 4, 4]
    server.listening.close()


def test_kept_connection_that_is_old_idle_or_holds_unread_bytes_is_not_used(
    internal_addresses_allowed: None, kept: KeptConnections, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = KeepingServer(KEPT["short body"] + b"HTTP/1.1 200 OK\r\n")
    url = f"http://127.0.0.1:{server.port}/"
    origin = origin_of(validate_url(url))
    for limit in ("MAX_CONNECTION_AGE_SECONDS", "MAX_IDLE_SECONDS"):
        post(url, kept)
        with monkeypatch.context() as later:
            later.setattr(kept_connections, limit, 0.0)
            assert kept.take(origin) is None
    post(url, kept)
    with monkeypatch.context() as later:
        later.setattr(kept_connections, "MAX_IDLE_SECONDS", 0.0)
        kept.close_unusable()
    assert kept.take(origin) is None
    server.listening.close()


def test_timeout_on_a_kept_connection_is_not_repeated(internal_addresses_allowed: None, kept: KeptConnections) -> None:
    server = KeepingServer(KEPT["short body"])
    url = f"http://127.0.0.1:{server.port}/"
    post(url, kept)
    server.script = b""
    with pytest.raises(RequestFailed, match=r"No whole answer within 0\.3 s\.") as failed:
        http_client.send_request(url, method="POST", body=b"{}", timeout_seconds=0.3, kept=kept)
    assert failed.value.timed_out
    assert server.requests == [1, 1]
    server.listening.close()


def test_address_that_does_not_respond_leaves_time_for_the_next(internal_addresses_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    server = KeepingServer(KEPT["short body"])
    full = socket.socket()
    full.bind(("127.0.0.2", server.port))
    full.listen(0)
    filling = [socket.socket() for _ in range(3)]
    for one in filling:
        one.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            one.connect(("127.0.0.2", server.port))
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.6)
    found = [(2, 1, 6, "", (address, server.port)) for address in ("127.0.0.2", "127.0.0.2", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert http_client.send_request(f"http://hooks.example.com:{server.port}/", method="POST", body=b"{}", timeout_seconds=2).status == 200
    for one in (*filling, full, server.listening):
        one.close()


def test_hanging_lookups_are_bounded(internal_addresses_allowed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    end, running = threading.Event(), list[int]()

    def hang(*_: object, **__: object) -> list[object]:
        running.append(1)
        end.wait(PATIENT)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    monkeypatch.setattr(http_client, "CONNECT_SECONDS", 0.05)
    monkeypatch.setattr(http_client, "_lookups", threading.BoundedSemaphore(2))
    for _ in range(4):
        with pytest.raises(RequestFailed, match="has no address"):
            http_client.send_request("http://hooks.example.com/", method="GET", timeout_seconds=1)
    assert len(running) == 2
    end.set()
