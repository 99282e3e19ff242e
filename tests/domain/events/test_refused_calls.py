"""Refused calls are counted by reason once each, whatever fails, and never in the call that is refused."""

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import DatabaseError, InterfaceError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from baskets.api.admission import Admission
from baskets.domain.access import api_keys
from baskets.domain.events import activity, refused_calls
from baskets.domain.support import sandboxes
from baskets.models import Partner, RefusalActivity
from baskets.models.activity import Span
from tests.concurrency.barrier import run_concurrently
from tests.factories import TESTER
from tests.time_travel import age_all_rows


@pytest.fixture(autouse=True)
def nothing_counted() -> Iterator[None]:
    """No counts of other tests."""
    refused_calls._counts.clear()
    yield
    refused_calls._counts.clear()


def counted(span: Span = Span.MINUTE) -> dict[str, int]:
    totals: dict[str, int] = {}
    for reason, calls in RefusalActivity.objects.filter(seconds=span).values_list("reason", "calls"):
        totals[reason] = totals.get(reason, 0) + calls
    return totals


@pytest.mark.django_db
def test_refused_calls_are_counted_by_reason_and_written_later(client: Client, partner: Partner) -> None:
    key = {"X-API-Key": api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)[1]}
    with CaptureQueriesContext(connection) as queries:
        assert client.post("/baskets/users/ann/products/lamp", headers=key, content_type="application/json").status_code == 404
        assert client.get("/baskets/users/ann", headers=key).status_code == 200
        assert client.get("/livez").status_code == 200
    assert not [query for query in queries if "refusalactivity" in query["sql"]]
    Admission().error_response("overloaded", None)
    refused_calls.write_counts()
    assert counted() == counted(Span.HOUR) == {"product_unknown": 1, "overloaded": 1}
    with CaptureQueriesContext(connection) as queries:
        refused_calls.write_counts()
    assert not queries.captured_queries


@pytest.mark.django_db
def test_sandboxes_strangers_and_unknown_addresses_are_left_out(client: Client, partner: Partner) -> None:
    sandbox = sandboxes.open_sandbox(partner_name=partner.name, actor=TESTER)
    live, test = ({"X-API-Key": api_keys.issue_api_key(partner_name=of.name, actor=TESTER)[1]} for of in (partner, sandbox))
    assert client.post("/baskets/users/ann/products/lamp", headers=test, content_type="application/json").status_code == 404
    assert client.get("/baskets/users/ann").status_code == 401
    assert client.get("/nothing-here", headers=live).status_code == 404
    Admission().error_response("uri_too_long", None)
    refused_calls.write_counts()
    assert counted() == {}


@pytest.mark.django_db
@pytest.mark.parametrize("error", [DatabaseError, InterfaceError])
def test_counts_survive_a_database_that_fails(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Callable[[], Any]) -> None:
        raise error

    refused_calls.count("out_of_stock")
    with monkeypatch.context() as patched:
        patched.setattr(refused_calls, "run_in_transaction", fail)
        refused_calls.write_counts()
    refused_calls.count("out_of_stock")
    refused_calls.write_counts()
    assert counted() == {"out_of_stock": 2}


@pytest.mark.django_db
def test_old_counts_are_deleted() -> None:
    refused_calls.count("out_of_stock")
    refused_calls.write_counts()
    age_all_rows(timedelta(days=3))
    activity.delete_old_counts()
    assert (counted(), counted(Span.HOUR)) == ({}, {"out_of_stock": 1})


@pytest.mark.django_db(transaction=True)
def test_the_process_server_writes_them_beside_its_calls() -> None:
    admission = Admission()
    refused_calls.count("out_of_stock")
    admission.observe(queued=0, busy=0, in_flight=0, connections=0)
    assert counted() == {}, "not due yet"
    admission._counts_due_at = 0
    admission.observe(queued=0, busy=0, in_flight=0, connections=0)
    for thread in threading.enumerate():
        if thread.name == "refused-calls":
            thread.join()
    assert counted() == {"out_of_stock": 1}
    refused_calls.count("throttled")
    ended = threading.Thread(target=admission.end_thread)
    ended.start()
    ended.join()
    assert counted() == {"out_of_stock": 1, "throttled": 1}


@pytest.mark.django_db(transaction=True)
def test_processes_that_write_at_once_lose_nothing() -> None:
    def write(number: int) -> None:
        reasons = ["a", "b", "c"][:: 1 if number % 2 else -1]
        for _ in range(10):
            refused_calls.execute(refused_calls.ADD, [reasons, [1, 1, 1]])

    assert run_concurrently([partial(write, number) for number in range(4)]) == [None] * 4
    assert counted() == counted(Span.HOUR) == {"a": 40, "b": 40, "c": 40}
