"""The metrics: they need a configured token, and their numbers are correct."""

import os
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.db import OperationalError
from django.db.models import F
from django.test import Client

from baskets.api.protocol.metrics import DATABASE_FAULTS, TRACKING_DROPPED
from baskets.domain.events import feed
from baskets.models import Event, WebhookEndpoint
from tests.api.conftest import Api, PassTime, Sells, Unchanged

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


def test_lag_of_feed_and_webhooks(settings: Any, api: Api, sells: Sells) -> None:
    settings.BASKETS_METRICS_TOKEN = TOKEN
    lags = ("feed_lag_seconds", "webhook_lag_seconds", "webhook_blocked_baskets", "webhooks_given_up")
    sells("p1")
    api.post("/baskets/webhooks", {"url": "https://shop.example.com/hooks"})
    assert [numbers()[f"baskets_{name}"] for name in lags] == [0, 0, 0, 0]
    api.place("p1", user="ada")
    Event.objects.update(at=F("at") - timedelta(minutes=1))
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
    monkeypatch.setattr("baskets.api.views.metrics.execute", fail)
    found = numbers()
    assert found["baskets_database_up"] == 0
    assert "baskets_checkouts_active" not in found


def test_database_faults_are_counted(monkeypatch: pytest.MonkeyPatch, api: Api) -> None:
    def fail(*_: Any) -> None:
        raise OperationalError from psycopg.OperationalError()

    before = DATABASE_FAULTS.labels("unavailable")._value.get()
    monkeypatch.setattr("baskets.api.views.baskets.read_basket", fail)
    assert api.get("/baskets/users/ada").status == 503
    assert DATABASE_FAULTS.labels("unavailable")._value.get() - before == 1


def test_each_worker_reports_the_sums_of_all(tmp_path: Path) -> None:
    count = "from baskets.api.protocol.metrics import DATABASE_FAULTS as F; F.labels('busy').inc(2)"
    show = "from baskets.api.views.metrics import _counter_registry as r; from prometheus_client import generate_latest; "
    show += "print(generate_latest(r()).decode())"
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", count], env=environment, check=True)
    setup = "import os, django; os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'basket_project.settings'); django.setup(); "
    shown = subprocess.run([sys.executable, "-c", setup + show], env=environment, check=True, capture_output=True, text=True).stdout
    assert re.search(r'^baskets_database_faults_total\{fault="busy"\} 4\.0$', shown, re.MULTILINE)
