"""How a connection is made: names, addresses, TLS."""

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.db import transaction

from baskets.net import http_client
from baskets.net.http_client import RequestFailed
from baskets.net.outgoing_urls import ForbiddenUrl, validate_url
from baskets.net.watchdog import shut_down
from tests.net.http_servers import PATIENT, Serve, Server, resolve_to, slowly, status_of
from tests.net.test_kept_connections import KEPT, KeepingServer
from tests.waiting import eventually

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
            http_client.send_request(f"http://127.0.0.1:{port}/", method="GET", timeout_seconds=PATIENT)


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
            with pytest.raises((ssl.SSLError, BrokenPipeError)):  # The latter from Python 3.13 on.
                connection.send(b"in clear")
    finally:
        server.close()


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
    assert status_of(f"http://hooks.example.com:{server.port}/") == 200
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
    assert eventually(lambda: len(running) == 2)
    end.set()
