"""Every input of the corpus: the answer it must get, in its envelope, within a second, and not a row changed."""

import contextlib
import itertools
import time
from collections.abc import Callable
from typing import Any

import pytest

from baskets.api.exceptions import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND, TABLE
from tests.fuzz.cases import BOB, FINISH, JSON, KEY, MAYBE, Case, finish, get
from tests.fuzz.conftest import Service
from tests.fuzz.corpus import CORPUS
from tests.fuzz.wire import RawConnection, Reply, exchange, request

Everything = Callable[[], dict[str, list[Any]]]
SLOWEST_MS = 1000


def filled(raw: bytes, service: Service) -> bytes:
    """Put the key and the order number into a case."""
    return raw.replace(b"{key}", service.key.encode()).replace(b"{order}", service.order_no.encode())


def assert_enveloped(reply: Reply) -> None:
    """Fail unless an answer of the application is in its envelope, and a refusal in the table of errors."""
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"]
    assert reply.headers["x-api-version"] in {"2025-09-15", "2025-07-21"}
    if reply.status == 200:
        assert set(reply.body) == {"data"}
        return
    status, code, reason = reply.refusal
    assert (status, code) in {TABLE[reason], ORDER_NOT_FOUND, BASKET_NOT_FOUND_ON_FINISH}
    assert ("www-authenticate" in reply.headers) == (status == 401)
    assert ("allow" in reply.headers) == (status == 405)


def test_corpus_is_large_and_its_names_are_unique() -> None:
    assert len(CORPUS) >= 150
    assert len({case.name for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_malformed_request_gets_a_published_error_and_changes_nothing(case: Case, service: Service, stored_rows: Everything) -> None:
    before = stored_rows()
    with RawConnection(service.port) as line:
        line.send(filled(case.raw, service))
        reply = line.reply(head_only=case.head_only)
        if case.head_only:
            assert reply.status == case.answer
        else:
            assert_enveloped(reply)
            assert (reply.status if reply.status == 200 else reply.refusal) == case.answer
        if case.then_closed:
            assert line.closed()
    if case.logged:
        assert service.line_of(reply.headers["x-request-id"])["ms"] < SLOWEST_MS
    assert stored_rows() == before


# --- What takes more than one message --------------------------------------------------------


def test_expect_100_continue_gets_100(service: Service, stored_rows: Everything) -> None:
    before = stored_rows()
    with RawConnection(service.port) as line:
        line.send(filled(finish(b"", "Expect: 100-continue", f"Content-Length: {len(MAYBE)}"), service))
        assert line.reply().status == 100
        line.send(MAYBE)
        assert line.reply().refusal == (422, 3002, "validation_failed")
    assert stored_rows() == before


def test_expect_100_continue_with_too_large_body_is_refused_at_once(service: Service, stored_rows: Everything) -> None:
    before = stored_rows()
    with RawConnection(service.port) as line:
        line.send(filled(request("POST", FINISH, KEY, JSON, "Expect: 100-continue", "Content-Length: 10000000"), service))
        assert line.reply().refusal == (413, 3002, "body_too_large")
        assert line.closed()
    assert stored_rows() == before


@pytest.mark.parametrize("framing", ["Content-Length: 18", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("sent", [b"", b'{"ordered": f'])
@pytest.mark.parametrize("to", [FINISH, "/baskets/users/ada/products/p1", "/baskets/users/bob/products/p1"])
def test_truncated_body_changes_nothing(framing: str, sent: bytes, to: str, service: Service, stored_rows: Everything) -> None:
    before = stored_rows()
    chunk = b"%x\r\n%b\r\n" % (len(sent), sent) if sent and "chunked" in framing else sent
    with RawConnection(service.port) as line:
        line.send(filled(request("POST", to, KEY, JSON, framing), service) + chunk)
        line.close_writing()
        assert line.reply().status in {0, 400, 422}
    assert stored_rows() == before


def test_pipelined_requests_are_answered_in_order(service: Service) -> None:
    names = [f"pipelined-{number}" for number in range(20)]
    with RawConnection(service.port) as line:
        line.send(b"".join(filled(get(BOB, f"X-Request-ID: {name}"), service) for name in names))
        assert [line.reply().headers["x-request-id"] for _ in names] == names


def test_rejected_request_does_not_affect_the_next(service: Service, stored_rows: Everything) -> None:
    before = stored_rows()
    with RawConnection(service.port) as line:
        line.send(request("POST", FINISH, JSON, body=MAYBE) + filled(get(BOB), service) + request("GET", BOB))
        assert [line.reply().status for _ in range(3)] == [401, 200, 401]
    assert stored_rows() == before


def test_body_of_a_rejected_request_is_not_parsed_as_a_request(service: Service, stored_rows: Everything) -> None:
    before = stored_rows()
    hidden = filled(request("DELETE", "/baskets/users/ada", KEY), service)
    with RawConnection(service.port) as line:
        line.send(request("POST", FINISH, "Content-Type: text/plain", body=hidden) + filled(get(BOB), service))
        assert [line.reply().status for _ in range(2)] == [401, 200]
    assert stored_rows() == before


def test_slow_senders_do_not_delay_others(service: Service) -> None:
    """More callers than the server has threads, each with an unfinished head or body: others are answered all the same."""
    slow = [RawConnection(service.port) for _ in range(40)]
    try:
        for number, line in enumerate(slow):
            raw = filled(finish(MAYBE), service)
            line.send(raw[:60] if number % 2 else raw[:30])
        started = time.perf_counter()
        assert exchange(service.port, filled(get(BOB), service)).status == 200
        assert time.perf_counter() - started < 5
    finally:
        for line in slow:
            line.__exit__()


def test_missing_body_holds_no_thread_and_times_out(service: Service) -> None:
    """More callers at each address than the server has threads; others are answered at once."""
    with contextlib.ExitStack() as stack:
        slow = []
        for to, key in itertools.product((FINISH, "/nowhere", "/admin/login/", "/livez"), (KEY, "X-API-Key: bk_bad")):
            lines = [stack.enter_context(RawConnection(service.port)) for _ in range(12)]
            for line in lines:
                line.send(filled(request("POST", to, key, JSON, "Content-Length: 200000"), service) + b"{")
            slow += lines
        started = time.perf_counter()
        assert exchange(service.port, filled(get(BOB), service)).status == 200
        assert exchange(service.port, filled(finish(MAYBE), service)).status == 422
        assert time.perf_counter() - started < 2
        assert {line.reply().refusal for line in slow} == {(408, 3002, "request_timeout")}
        assert all(line.closed() for line in slow)


def test_missing_head_times_out(service: Service) -> None:
    with RawConnection(service.port) as line:
        line.send(b"GET /livez HTTP/1.1\r\nX-A: ")
        for _ in range(40):  # One byte at a time does not prolong it.
            line.send(b"a")
            time.sleep(0.1)
        reply = line.reply()
        assert reply.refusal == (408, 3002, "request_timeout")
        assert reply.seconds < 8


def test_missing_rejected_bodies_hold_no_thread(service: Service) -> None:
    slow = [RawConnection(service.port) for _ in range(12)]
    try:
        for line in slow:
            line.send(filled(request("POST", FINISH, KEY, JSON, "Content-Length: 10000000"), service))
        started = time.perf_counter()
        assert exchange(service.port, filled(get(BOB), service)).status == 200
        assert {line.reply().refusal for line in slow} == {(413, 3002, "body_too_large")}
        assert time.perf_counter() - started < 2
    finally:
        for line in slow:
            line.__exit__()


def test_server_log_is_json_without_request_content(service: Service) -> None:
    lines = service.lines()
    assert {"request", "worker_started"} <= {line["event"] for line in lines}
    assert all(line["timestamp"] and line["level"] for line in lines)
    text = service.log.read_text()
    for quoted in (service.key.split("_")[2], "evil.example", "<script", "jndi", "%3Cscript"):
        assert quoted not in text
