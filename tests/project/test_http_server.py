"""The queue in front of the threads, and the reader of chunks: what the server decides without a socket."""

import time
from collections import Counter
from typing import Any
from unittest.mock import Mock

import pytest
from django.http import HttpResponse

from basket_project.http_server.connection_table import ConnectionTable
from basket_project.http_server.connections import Phase
from basket_project.http_server.request_queue import QueuedRequest, RequestQueue
from basket_project.http_server.request_threads import RequestThreads
from basket_project.http_server.requests import BadRequest, ChunkedBody, Head
from baskets.api.admission import READINESS_SECONDS, Admission, LatestReadiness
from baskets.api.exceptions import error_response
from baskets.checks import check_python_version


def call(priority: int) -> QueuedRequest:
    return QueuedRequest(Mock(), Mock(), b"", priority)


def test_calls_are_taken_by_priority_and_then_by_age() -> None:
    queue = RequestQueue(priorities=3, length=10, seconds=1)
    calls = [call(priority) for priority in (2, 1, 0, 2, 0)]
    assert [queue.put(each) for each in calls] == [None] * 5
    queue.wake_threads()
    assert [queue.get() for _ in calls] == [calls[2], calls[4], calls[1], calls[0], calls[3]]
    assert len(queue) == 0


def test_a_full_queue_refuses_the_oldest_call_of_the_lowest_priority() -> None:
    queue = RequestQueue(priorities=3, length=3, seconds=1)
    start, older, newer = call(1), call(2), call(2)
    assert [queue.put(each) for each in (start, older, newer)] == [None] * 3
    browsing = call(2)
    assert queue.put(browsing) is browsing
    assert queue.put(call(0)) is older
    assert queue.put(call(0)) is newer
    assert queue.put(call(0)) is start
    payment = call(0)
    assert queue.put(payment) is payment
    assert len(queue) == 3


def test_calls_that_waited_too_long_leave_the_queue() -> None:
    queue = RequestQueue(priorities=2, length=9, seconds=1)
    late, fresh = call(1), call(0)
    queue.put(late)
    fresh.queued_at = late.queued_at + 0.9
    queue.put(fresh)
    assert queue.pop_late(late.queued_at + 0.74) == []
    assert queue.pop_late(late.queued_at + 1.01) == [late]
    queue.wake_threads()
    assert queue.get() is fresh


def test_calls_wait_less_while_the_queue_is_never_empty() -> None:
    """Once it has been empty, a burst may wait longer again."""
    queue = RequestQueue(priorities=1, length=9, seconds=1)
    first, second, third = calls = [call(0) for _ in range(3)]
    second.queued_at, third.queued_at = first.queued_at + 0.9, first.queued_at + 1.2
    for each in calls:
        queue.put(each)
    queue.wake_threads()
    assert queue.get() is first
    assert queue.pop_late(first.queued_at + 1.2) == [second]
    assert queue.get() is third
    burst = call(0)
    burst.queued_at = first.queued_at + 1.3
    queue.put(burst)
    assert queue.pop_late(burst.queued_at + 0.74) == []
    assert queue.pop_late(burst.queued_at + 0.76) == [burst]


def test_a_free_thread_ends_a_standing_queue() -> None:
    queue = RequestQueue(priorities=1, length=9, seconds=1)
    late = call(0)
    queue.put(late)
    queue.wake_threads()
    assert queue.pop_late(late.queued_at + 1.01) == [late]
    queue.close(1)
    assert queue.get() is None
    burst = call(0)
    burst.queued_at = late.queued_at + 60
    queue.put(burst)
    assert queue.pop_late(burst.queued_at + 0.74) == []


def test_a_thread_is_woken_once_for_each_call() -> None:
    queue = RequestQueue(priorities=1, length=9, seconds=1)
    first, second = call(0), call(0)
    queue.put(first)
    queue.wake_threads()
    queue.wake_threads()
    queue.put(second)
    assert queue._tokens.qsize() == 1
    queue.wake_threads()
    assert queue._tokens.qsize() == 2
    assert [queue.get(), queue.get()] == [first, second]


def test_a_closed_queue_lets_its_threads_end() -> None:
    queue = RequestQueue(priorities=1, length=1, seconds=1)
    queue.close(1)
    assert queue.get() is None


def test_requests_in_flight_are_those_without_a_response() -> None:
    table = ConnectionTable(Mock(), Mock())
    table._connections = {Mock(phase=phase): None for phase in (*Phase, Phase.BUSY)}
    assert (table.in_flight, len(table)) == (2, len(Phase) + 1)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_chunks_are_read_however_they_arrive(size: int) -> None:
    raw, body, buffer = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nX-A: b\r\n\r\nGET", ChunkedBody(100), bytearray()
    done = False
    for at in range(0, len(raw), size):
        buffer += raw[at : at + size]
        done = done or body.feed(buffer)
    assert (done, bytes(body.data), body.too_large) == (True, b"abc0123456789", False)
    assert bytes(buffer) == b"GET"


@pytest.mark.parametrize("raw", [b"g\r\n", b"\r\n", b"3\r\nabcd", b"3\r\nabc\n0", b"3\nabc\r\n", b"1" * 16 + b"\r\n", b"a" * 1025])
def test_broken_chunks_are_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        ChunkedBody(100).feed(bytearray(raw))


def test_a_chunked_body_beyond_its_limit_is_read_no_further() -> None:
    body = ChunkedBody(4)
    assert body.feed(bytearray(b"5\r\nabcde\r\n"))
    assert body.too_large


@pytest.mark.parametrize(
    ("path", "priority"),
    [
        ("/baskets/users/a/checkout/sessions/finish-active", 0),
        ("/v2/baskets/users/a/checkout/sessions/ABCD", 0),
        ("/baskets/users/a/checkout/sessions", 1),
        ("/baskets/users/a", 2),
        ("/baskets/users/a/checkout/sessions/b/c", 2),
        ("/admin/", 2),
        ("/static/a.js", 3),
        ("/schema", 3),
        ("/readyz", 2),
        ("/metrics", 3),
    ],
)
def test_calls_are_ranked_by_what_is_behind_them(path: str, priority: int) -> None:
    assert Admission().priority(Mock(path=path)) == priority


def head(method: str, path: str, host: str = "127.0.0.1") -> Head:
    return Head(method, path, "", 1, {"HTTP_HOST": host}, 0, keep_alive=True, expects_continue=False)


@pytest.mark.parametrize(
    ("request_head", "is_probe"),
    [
        (head("GET", "/readyz"), True),
        (head("HEAD", "/metrics"), True),
        (head("POST", "/readyz"), False),
        (head("GET", "/readyz", "elsewhere.example"), False),
        (head("GET", "/livez"), False),
    ],
)
def test_probes_that_will_be_refused_have_no_separate_thread(request_head: Head, is_probe: bool) -> None:
    assert Admission().is_probe(request_head) == is_probe


@pytest.mark.parametrize("reason", ["header_too_large", "overloaded"])
def test_a_refusal_before_any_work_has_the_headers_for_browsers(reason: str) -> None:
    headers = dict(Admission().error_response(reason, None)[1])
    assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.fixture
def readiness(monkeypatch: pytest.MonkeyPatch) -> LatestReadiness:
    """No check has been made yet."""
    latest = LatestReadiness()
    monkeypatch.setattr("baskets.api.admission.LATEST_READINESS", latest)
    return latest


@pytest.mark.parametrize("answer", [HttpResponse(b"ready"), error_response("database_unavailable")])
def test_a_check_of_the_database_answers_the_probes_of_a_second(
    answer: HttpResponse, readiness: LatestReadiness, monkeypatch: pytest.MonkeyPatch
) -> None:
    admission, now = Admission(), time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    readiness.put(answer)
    now += READINESS_SECONDS - 0.1
    responses = [admission.immediate_response(head(method, "/readyz")) for method in ("GET", "HEAD")]
    assert [(each.status, each.body) for each in responses if each] == [(answer.status_code, answer.content)] * 2
    assert len({dict(each.headers)["X-Request-ID"] for each in responses if each}) == 2
    assert admission.immediate_response(head("POST", "/readyz")) is None
    assert admission.immediate_response(head("GET", "/readyz", "elsewhere.example")) is None
    assert admission.immediate_response(head("GET", "/metrics")) is None
    now += 0.2
    assert admission.immediate_response(head("GET", "/readyz")) is None


def test_probes_that_have_waited_get_the_answer_of_the_first() -> None:
    """The application is called once."""
    called: list[str] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        called.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return [b""]

    policy, writer = Mock(priorities=1), Mock()
    policy.immediate_response = lambda _: (200, [], b"known") if called else None
    writer.render.return_value = (b"checked", True)
    threads = RequestThreads(application, policy, writer, Mock(), base={}, number=1, queue_length=9, queue_seconds=1, refused=Counter())
    for _ in range(3):
        probe = QueuedRequest(Mock(address=("127.0.0.1", 1), peer_closed=False), head("GET", "/readyz"), b"", 0)
        assert threads.put(probe, is_probe=True) is None
    threads.wake()
    with threads.run():
        pass
    assert called == ["/readyz"]
    assert [writer.send.call_count, writer.respond.call_count] == [1, 2]


def test_readiness_fails_once_the_end_is_announced(readiness: LatestReadiness) -> None:
    """It needs no thread for that, and `/livez` stays: a restart would not help."""
    admission = Admission()
    probe = head("GET", "/readyz")
    assert admission.immediate_response(probe) is None
    readiness.put(HttpResponse(b"ready"))
    admission.announce_end()
    response = admission.immediate_response(probe)
    assert response
    assert response.status == 503
    assert b'"shutting_down"' in response.body
    alive = admission.immediate_response(head("GET", "/livez"))
    assert alive
    assert alive.status == 200
    assert admission.immediate_response(head("POST", "/readyz")) is None


def test_refused_callers_return_at_different_times() -> None:
    """Each refusal has separate headers, although they share a body."""
    responses = [dict(Admission().error_response("overloaded", None)[1]) for _ in range(200)]
    assert {response["Retry-After"] for response in responses} == {"1", "2", "3", "4", "5"}
    assert len({response["X-Request-ID"] for response in responses}) == 200


@pytest.mark.parametrize(
    ("version", "warned"),
    [((3, 11, 9), True), ((3, 11, 10), False), ((3, 12, 5), True), ((3, 12, 6), False), ((3, 13, 0), False), ((3, 14, 0), False)],
)
def test_a_python_that_reads_cookies_slowly_is_warned_of(version: Any, warned: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.version_info", version)
    assert [found.id for found in check_python_version()] == ["baskets.W001"] * warned
