"""Connections that are kept after a whole response, and used again."""

import socket
from collections.abc import Iterator

import pytest

from baskets.net import http_client, kept_connections
from baskets.net.http_client import RequestFailed
from baskets.net.kept_connections import KeptConnections
from baskets.net.outgoing_urls import origin_of, validate_url
from tests.net.http_servers import PATIENT, Server
from tests.waiting import eventually


@pytest.fixture
def kept() -> Iterator[KeptConnections]:
    connections = KeptConnections()
    yield connections
    connections.close()


def post(url: str, kept: KeptConnections) -> int:
    return http_client.send_request(url, method="POST", body=b"{}", timeout_seconds=PATIENT, kept=kept).status


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
    assert eventually(lambda: server.requests == [1, 1])
    server.listening.close()
