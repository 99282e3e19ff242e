"""The metrics: they need a configured token, and their numbers are correct."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.core import checks
from django.db import OperationalError
from django.db.models import F
from django.test import Client

from baskets.api.protocol.metrics import AUTHENTICATION_FAILURES, DATABASE_FAULTS, TRACKING_DROPPED
from baskets.db.errors import RETRIES, read_with_reconnect
from baskets.db.transactions import run_in_transaction
from baskets.domain import audit_log
from baskets.domain.events import activity, feed
from baskets.domain.support import assignments
from baskets.models import DeskEntry, Event, StockReservation, WebhookEndpoint
from tests import seams
from tests.api.conftest import Api, PassTime, Sells, Unchanged
from tests.factories import TESTER
from tests.second_client import connect, holding
from tests.threads import beside
from tests.time_travel import age_rows
from tests.waiting import eventually

TOKEN = "a-token-of-the-operator"
OWN_WORDS = {"": "token_missing", "Basic " + TOKEN: "token_missing", "Bearer": "token_invalid", "Bearer " + TOKEN[:-1]: "token_invalid"}


def scrape(authorization: str = f"Bearer {TOKEN}", **options: Any) -> Any:
    return Client().get("/metrics", headers={"Authorization": authorization}, **options)


def numbers() -> dict[str, float]:
    answer = scrape()
    assert answer.status_code == 200
    lines = answer.content.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))}


def test_metrics_do_not_exist_without_a_configured_token(db: None) -> None:
    for authorization in (f"Bearer {TOKEN}", "Bearer ", ""):
        answer = scrape(authorization)
        assert (answer.status_code, answer.json()["error"]["details"]["reason"]) == (404, "not_found")


@pytest.mark.parametrize("authorization", [*OWN_WORDS, "Bearer ä", "bearer x " + TOKEN])
def test_metrics_require_the_token(settings: Any, authorization: str, db: None) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    answer = scrape(authorization)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (401, 2002)
    assert error["details"]["reason"] == OWN_WORDS.get(authorization, "token_invalid")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer ")


def test_requests_are_counted_by_route_status_and_reason(settings: Any, api: Api, sells: Sells) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    placed = 'baskets_requests_total{method="POST",reason="",route="baskets/users/<user_id>/products/<product_id>",status="200"}'
    unknown = placed.replace('reason=""', 'reason="product_unknown"').replace('status="200"', 'status="404"')
    sells("p1")
    before = numbers()
    api.place("p1")
    api.place("p1")
    api.place("elsewhere")
    after = numbers()
    assert after[placed] - before.get(placed, 0) == 2
    assert after[unknown] - before.get(unknown, 0) == 1
    assert not [name for name in after if "ada" in name or "p1" in name]


def test_dropped_tracking_is_counted(api: Api, sells: Sells) -> None:
    before = TRACKING_DROPPED.labels("header", "not_base64")._value.get()
    sells("p1")
    api.post("/baskets/users/ada/products/p1", {"count": 1}, X_JAY_Tracking="*")
    assert TRACKING_DROPPED.labels("header", "not_base64")._value.get() - before == 1


def test_database_numbers_take_two_statements(
    settings: Any, api: Api, sells: Sells, pass_time: PassTime, django_assert_num_queries: Any
) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    sells("p1", unsold=5)
    for user in ("ada", "bob"):
        api.place("p1", user=user)
        api.start(user=user)
    pass_time(timedelta(minutes=31), user="bob")
    with django_assert_num_queries(2):
        found = numbers()
    shown = {name: found[f"baskets_{name}"] for name in ("database_up", "checkouts_active", "checkouts_lapsed", "attention_open")}
    assert shown == {"database_up": 1, "checkouts_active": 2, "checkouts_lapsed": 1, "attention_open": 0}
    assert 60 <= found["baskets_oldest_lapsed_seconds"] < 120
    assert found["baskets_shortfall_pieces"] == 0
    assert found["baskets_keys_unlike_others"] == 0


def test_chosen_products_have_sales_and_stock_in_one_statement_more(
    settings: Any, api: Api, sells: Sells, pass_time: PassTime, django_assert_num_queries: Any
) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    settings.BASKETS_METRICS_PRODUCTS = ["p1", "p2", "song", "elsewhere"]
    for product_id in ("p1", "p2", "p3"):
        sells(product_id, unsold=10)
    sells("song")
    for user, count in (("ada", 3), ("bob", 2), ("cid", 4)):
        for product_id in ("p1", "p3", "song"):
            api.place(product_id, count, user=user)
        api.start(user=user)
    api.finish(True, user="ada")
    pass_time(timedelta(minutes=31), user="cid")  # Its pieces can be held again before a sweep.
    with django_assert_num_queries(3):
        found = numbers()
    shown = {name.removeprefix("baskets_product_"): value for name, value in found.items() if name.startswith("baskets_product_")}
    assert shown == {
        'sold_pieces{product="p1"}': 3,
        'available_pieces{product="p1"}': 5,
        'sold_pieces{product="p2"}': 0,
        'available_pieces{product="p2"}': 10,
    }
    StockReservation.objects.filter(status="SOLD").update(
        created_at=F("created_at") - timedelta(minutes=2), ended_at=F("ended_at") - timedelta(minutes=1)
    )
    assert numbers()['baskets_product_sold_pieces{product="p1"}'] == 0


def test_more_products_than_a_label_may_have_are_reported_by_check(settings: Any) -> None:
    settings.BASKETS_METRICS_PRODUCTS = ["p"] * 20
    assert checks.run_checks() == []
    settings.BASKETS_METRICS_PRODUCTS = ["p"] * 21
    assert [problem.id for problem in checks.run_checks()] == ["baskets.E035"]


def test_last_runs_and_what_the_check_found(settings: Any, db: None) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    names = ("last_sweep_timestamp_seconds", "last_purge_timestamp_seconds", "last_check_timestamp_seconds", "broken_rules")
    assert [numbers()[f"baskets_{name}"] for name in names] == [0, 0, 0, 0]
    broken = {"slug": "supply_equation", "rule": 1, "sentence": "It holds.", "total": 2, "examples": []}
    for found in ([], [broken, broken | {"slug": "items_whole", "rule": 2}]):
        assignments.record_check(checked=60, found=found, actor=TESTER)
    audit_log.record(kind=DeskEntry.Kind.PURGED, about="basket", actor=TESTER)
    activity.record_sweep()
    *ended, rules = (numbers()[f"baskets_{name}"] for name in names)
    assert [abs(time.time() - moment) < 60 for moment in ended] == [True] * 3
    assert rules == 2
    DeskEntry.objects.filter(kind="purged").update(at=F("at") - timedelta(days=1))
    assert 86_300 < time.time() - numbers()["baskets_last_purge_timestamp_seconds"] < 86_500
    assignments.record_check(checked=60, found=[], actor=TESTER)
    assert numbers()["baskets_broken_rules"] == 0


@pytest.mark.django_db(transaction=True)
def test_waits_for_locks_are_shown(settings: Any) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    assert [numbers()[f"baskets_{name}"] for name in ("lock_waits", "longest_lock_wait_seconds")] == [0, 0]
    lock = "SELECT pg_advisory_xact_lock(1)"
    with holding(lock) as first, connect() as second:
        second.execute("SET lock_timeout = 0")
        with beside(partial(second.execute, lock), stop=first.rollback):
            assert eventually(lambda: numbers()["baskets_lock_waits"])
            found = numbers()
    assert found["baskets_lock_waits"] == 1
    assert 0 < found["baskets_longest_lock_wait_seconds"] < 60


def test_lag_of_feed_and_webhooks(settings: Any, api: Api, sells: Sells) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    lags = ("feed_lag_seconds", "webhook_lag_seconds", "webhook_blocked_baskets", "webhooks_given_up")
    sells("p1")
    api.post("/baskets/webhooks", {"url": "https://shop.example.com/hooks"})
    assert [numbers()[f"baskets_{name}"] for name in lags] == [0, 0, 0, 0]
    api.place("p1", user="ada")
    age_rows(timedelta(minutes=1), Event.objects.all())
    found = numbers()
    assert (60 <= found["baskets_feed_lag_seconds"] < 120, found["baskets_webhook_lag_seconds"]) == (True, 0)
    feed.assign_positions()
    found = numbers()
    assert (found["baskets_feed_lag_seconds"], 60 <= found["baskets_webhook_lag_seconds"] < 120) == (0, True)
    WebhookEndpoint.objects.update(state="dead")
    assert [numbers()[f"baskets_{name}"] for name in lags] == [0, 0, 0, 1]


def test_unusual_key_is_counted(settings: Any, api: Api, sells: Sells) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    sells("p1", unsold=500)
    api.place("p1", 100)
    api.start()
    assert numbers()["baskets_keys_unlike_others"] == 1


def test_resolved_flag_is_not_counted(settings: Any, api: Api, sells: Sells) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    sells("p1")
    open_flags = []
    api.place("p1")
    order_no = api.start().data["orderNo"]
    api.finish(False)
    for number in (None, order_no):
        api.finish(True, order_no=number)
        open_flags.append(numbers()["baskets_attention_open"])
    assert open_flags == [1, 0]


def test_reading_metrics_changes_nothing(settings: Any, unchanged: Unchanged) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    unchanged()
    numbers()


def test_unavailable_database_is_reported_as_a_number(settings: Any, monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError from psycopg.OperationalError()

    settings.BASKETS_METRICS_TOKEN = TOKEN
    seams.NUMBERS_OF_METRICS.replace(monkeypatch, fail)
    found = numbers()
    assert found["baskets_database_up"] == 0
    assert "baskets_checkouts_active" not in found


def test_database_faults_are_counted(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError from psycopg.OperationalError()

    before = DATABASE_FAULTS.labels("unavailable")._value.get()
    seams.BASKET_OF_AN_ANSWER.replace(monkeypatch, fail)
    assert api.get("/baskets/users/ada").status == 503
    assert DATABASE_FAULTS.labels("unavailable")._value.get() - before == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("run", "error", "sqlstate"),
    [
        (run_in_transaction, psycopg.errors.DeadlockDetected(), "40P01"),
        (run_in_transaction, psycopg.errors.SerializationFailure(), "40001"),
        (read_with_reconnect, psycopg.errors.InvalidSqlStatementName(), "26000"),
    ],
)
def test_retries_are_counted_by_sqlstate(run: Callable[[Any], Any], error: psycopg.Error, sqlstate: str) -> None:
    before, failures = RETRIES.labels(sqlstate)._value.get(), [error]

    def fail_once() -> None:
        if failures:
            raise OperationalError from failures.pop()

    run(fail_once)
    run(fail_once)
    assert RETRIES.labels(sqlstate)._value.get() - before == 1


def failures() -> dict[str, float]:
    samples = AUTHENTICATION_FAILURES.collect()[0].samples
    return {sample.labels["reason"]: sample.value for sample in samples if sample.name.endswith("_total")}


def test_failed_keys_and_tokens_are_counted_by_reason_even_beyond_the_limit(settings: Any, api: Api, app: Api) -> None:
    settings.BASKETS_FAILURES_PER_MINUTE = 1
    before = failures()
    path = "/baskets/users/ada"
    assert api.get(path).status == 200
    assert Api(None).get(path).status == 401
    assert [Api("bk_no").get(path).status for _ in range(3)] == [401, 429, 429]
    assert app.get(path).status == 401
    assert app.get(path, Authorization="Bearer x").status == 429
    assert api.get("/baskets/elsewhere").status == 404
    counted = {reason: number - before.get(reason, 0) for reason, number in failures().items()}
    assert {reason: number for reason, number in counted.items() if number} == {
        "api_key_missing": 1,
        "api_key_invalid": 3,
        "token_missing": 1,
        "token_invalid": 1,
    }


def test_each_worker_reports_the_sums_of_all(tmp_path: Path) -> None:
    count = "from baskets.api.protocol import metrics as m; m.DATABASE_FAULTS.labels('busy').inc(2); m.REQUESTS_IN_FLIGHT.set(3); "
    count += "m.RETRIES.labels('40P01').inc()"
    show = "from baskets.api.views.metrics import _counter_registry as r; from prometheus_client import generate_latest; "
    show += "print(generate_latest(r()).decode())"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env=environment, check=True)
    setup = "import os, django; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'basket_project.settings'); django.setup(); "
    shown = subprocess.run([sys.executable, "-c", setup + show], env=environment, check=True, capture_output=True, text=True).stdout
    for sample in ('baskets_database_faults_total{fault="busy"} 4.0', "baskets_requests_in_flight 6.0"):
        assert sample in shown.splitlines()
    assert 'baskets_database_retries_total{sqlstate="40P01"} 2.0' in shown.splitlines()
