"""The HTTP client of load tests: all requests are sent once, over kept connections, and measured."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from baskets.management.load_client import Measurements, Request, Response, send_all


class Server(ThreadingHTTPServer):
    """Answers by the last part of the path: a status, or `hang`."""

    daemon_threads = True

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.connections: set[tuple[str, int]] = set()
        self.released = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.path, self.headers.get("X-API-Key", ""), body))
        self.server.connections.add(self.client_address)
        what = self.path.rpartition("/")[2]
        if what == "hang":
            self.server.released.wait(5)
            what = "200"
        self.send_response(int(what))
        self.send_header("Content-Length", "2")
        self.send_header("Location", "/200")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.released.set()
        serving.shutdown()
        thread.join()


def send(url: str, *paths: str, clients: int = 2, timeout_seconds: float = 5) -> tuple[Measurements, list[Response]]:
    responses: list[Response] = []
    measured = send_all(
        url,
        (Request(method="POST", path=path, body=b"[]") for path in paths),
        clients=clients,
        headers={"X-API-Key": "key"},
        timeout_seconds=timeout_seconds,
        on_response=responses.append,
    )
    return measured, responses


def test_every_request_is_sent_once_over_one_connection_for_each_client(server: Server) -> None:
    measured, responses = send(server.url + "/prefix/", *(f"/{n}/200" for n in range(20)))
    assert sorted(server.requests) == sorted((f"/prefix/{n}/200", "key", b"[]") for n in range(20))
    assert len(server.connections) <= 2
    assert {response.status for response in responses} == {200}
    assert (len(responses), len(measured.times), measured.failed) == (20, 20, {})
    assert measured.per_second > 0
    assert 0 < measured.percentile(0.5) <= measured.percentile(1)


def test_failures_are_counted_by_reason_and_redirects_are_not_followed(server: Server) -> None:
    measured, responses = send(server.url, "/302", "/422", "/503", "/503")
    assert sorted(response.status or 0 for response in responses) == [302, 422, 503, 503]
    assert (len(measured.times), measured.failed) == (2, {"503": 2})


def test_missing_response_has_the_type_of_its_error(server: Server) -> None:
    measured, responses = send(server.url, "/hang", timeout_seconds=0.2)
    assert [(response.status, response.error) for response in responses] == [(None, "TimeoutError")]
    assert (measured.times, measured.failed, measured.percentile(0.5)) == ([], {"TimeoutError": 1}, 0)
