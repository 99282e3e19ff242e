"""Every input of the corpus: the answer it must get, in its envelope, within a second, and not a row changed."""

import time
from collections.abc import Callable
from typing import Any

import pytest

from baskets.api.exceptions import BASKET_NOT_FOUND_ON_FINISH, ORDER_NOT_FOUND, TABLE
from tests.fuzz.cases import BOB, FINISH, JSON, KEY, MAYBE, Case, finish, get
from tests.fuzz.conftest import Served
from tests.fuzz.corpus import CORPUS
from tests.fuzz.wire import Line, Reply, exchange, request

Everything = Callable[[], dict[str, list[Any]]]
SLOWEST_MS = 1000


def filled(raw: bytes, served: Served) -> bytes:
    """Put the key and the order number into a case."""
    return raw.replace(b"{key}", served.key.encode()).replace(b"{order}", served.order_no.encode())


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


def test_the_corpus_is_large_and_every_case_has_a_name_of_its_own() -> None:
    assert len(CORPUS) >= 150
    assert len({case.name for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_hostile_input_is_answered_and_changes_nothing(case: Case, served: Served, everything: Everything) -> None:
    before = everything()
    with Line(served.port) as line:
        line.send(filled(case.raw, served))
        reply = line.reply(head_only=case.head_only)
        if case.head_only:
            assert reply.status == case.answer
        else:
            assert_enveloped(reply)
            assert (reply.status if reply.status == 200 else reply.refusal) == case.answer
        if case.then_closed:
            assert line.closed()
    if case.logged:
        assert served.line_of(reply.headers["x-request-id"])["ms"] < SLOWEST_MS
    assert everything() == before


# --- What takes more than one message --------------------------------------------------------


def test_a_caller_who_asks_first_is_told_to_go_on(served: Served, everything: Everything) -> None:
    before = everything()
    with Line(served.port) as line:
        line.send(filled(finish(b"", "Expect: 100-continue", f"Content-Length: {len(MAYBE)}"), served))
        assert line.reply().status == 100
        line.send(MAYBE)
        assert line.reply().refusal == (422, 3002, "validation_failed")
    assert everything() == before


def test_a_caller_who_asks_first_whether_to_send_too_much_is_refused_without_the_body(served: Served, everything: Everything) -> None:
    before = everything()
    with Line(served.port) as line:
        line.send(filled(request("POST", FINISH, KEY, JSON, "Expect: 100-continue", "Content-Length: 10000000"), served))
        assert line.reply().refusal == (413, 3002, "body_too_large")
        assert line.closed()
    assert everything() == before


@pytest.mark.parametrize("framing", ["Content-Length: 18", "Transfer-Encoding: chunked"])
@pytest.mark.parametrize("sent", [b"", b'{"ordered": f'])
@pytest.mark.parametrize("to", [FINISH, "/baskets/users/ada/products/p1", "/baskets/users/bob/products/p1"])
def test_a_body_that_is_cut_off_does_nothing(framing: str, sent: bytes, to: str, served: Served, everything: Everything) -> None:
    before = everything()
    chunk = b"%x\r\n%b\r\n" % (len(sent), sent) if sent and "chunked" in framing else sent
    with Line(served.port) as line:
        line.send(filled(request("POST", to, KEY, JSON, framing), served) + chunk)
        line.no_more()
        assert line.reply().status in {0, 400, 422}
    assert everything() == before


def test_requests_in_one_breath_are_answered_in_their_order(served: Served) -> None:
    names = [f"pipelined-{number}" for number in range(20)]
    with Line(served.port) as line:
        line.send(b"".join(filled(get(BOB, f"X-Request-ID: {name}"), served) for name in names))
        assert [line.reply().headers["x-request-id"] for _ in names] == names


def test_a_refused_request_does_not_speak_for_the_next(served: Served, everything: Everything) -> None:
    before = everything()
    with Line(served.port) as line:
        line.send(request("POST", FINISH, JSON, body=MAYBE) + filled(get(BOB), served) + request("GET", BOB))
        assert [line.reply().status for _ in range(3)] == [401, 200, 401]
    assert everything() == before


def test_the_body_of_a_refused_request_is_no_request(served: Served, everything: Everything) -> None:
    before = everything()
    hidden = filled(request("DELETE", "/baskets/users/ada", KEY), served)
    with Line(served.port) as line:
        line.send(request("POST", FINISH, "Content-Type: text/plain", body=hidden) + filled(get(BOB), served))
        assert [line.reply().status for _ in range(2)] == [401, 200]
    assert everything() == before


def test_those_who_send_slowly_keep_nobody_else_waiting(served: Served) -> None:
    """More callers than the server has threads, each with an unfinished head or body: others are answered all the same."""
    slow = [Line(served.port) for _ in range(40)]
    try:
        for number, line in enumerate(slow):
            raw = filled(finish(MAYBE), served)
            line.send(raw[:60] if number % 2 else raw[:30])
        started = time.perf_counter()
        assert exchange(served.port, filled(get(BOB), served)).status == 200
        assert time.perf_counter() - started < 5
    finally:
        for line in slow:
            line.__exit__()


@pytest.mark.parametrize("to", [FINISH, "/nowhere", "/admin/login/", "/livez"])
@pytest.mark.parametrize("key", [KEY, "X-API-Key: bk_bad"])
def test_a_body_that_does_not_come_holds_no_thread_and_is_given_up(key: str, to: str, served: Served) -> None:
    """More callers than the server has threads; others are answered at once."""
    slow = [Line(served.port) for _ in range(12)]
    try:
        for line in slow:
            line.send(filled(request("POST", to, key, JSON, "Content-Length: 200000"), served) + b"{")
        started = time.perf_counter()
        assert exchange(served.port, filled(get(BOB), served)).status == 200
        assert exchange(served.port, filled(finish(MAYBE), served)).status == 422
        assert time.perf_counter() - started < 2
        assert {line.reply().refusal for line in slow} == {(408, 3002, "request_timeout")}
        assert all(line.closed() for line in slow)
    finally:
        for line in slow:
            line.__exit__()


def test_a_head_that_does_not_come_is_given_up(served: Served) -> None:
    with Line(served.port) as line:
        line.send(b"GET /livez HTTP/1.1\r\nX-A: ")
        for _ in range(40):  # One byte at a time does not prolong it.
            line.send(b"a")
            time.sleep(0.1)
        reply = line.reply()
        assert reply.refusal == (408, 3002, "request_timeout")
        assert reply.seconds < 8


def test_long_bodies_that_are_refused_and_do_not_come_hold_no_thread(served: Served) -> None:
    slow = [Line(served.port) for _ in range(12)]
    try:
        for line in slow:
            line.send(filled(request("POST", FINISH, KEY, JSON, "Content-Length: 10000000"), served))
        started = time.perf_counter()
        assert exchange(served.port, filled(get(BOB), served)).status == 200
        assert {line.reply().refusal for line in slow} == {(413, 3002, "body_too_large")}
        assert time.perf_counter() - started < 2
    finally:
        for line in slow:
            line.__exit__()


def test_the_log_of_the_server_is_json_and_quotes_nobody(served: Served) -> None:
    lines = served.lines()
    assert {"request", "worker_started"} <= {line["event"] for line in lines}
    assert all(line["timestamp"] and line["level"] for line in lines)
    text = served.log.read_text()
    for quoted in (served.key.split("_")[2], "evil.example", "<script", "jndi", "%3Cscript"):
        assert quoted not in text
