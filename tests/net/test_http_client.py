"""Requests to URLs that partners configure: checked addresses, the deciding status line, and the limits of time and size."""

import socket
import threading
import time

import pytest

from baskets.net import http_client
from baskets.net.http_client import RequestFailed
from tests.net.http_servers import PATIENT, Serve, slowly, status_of

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
    assert status_of(serve(slowly(b"HTTP/1.1 " + status + b" X\r\nX-Long: ", b"x")), seconds=1) == int(status)
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
