"""The service against the model of the contract: over the domain, over HTTP in this process, and over HTTP for real."""

import http.client
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from hypothesis import HealthCheck, Phase, seed
from hypothesis import settings as profile
from hypothesis.stateful import run_state_machine_as_test

from baskets.domain.access.api_keys import issue_api_key
from baskets.domain.access.token_issuers import add_issuer
from baskets.domain.checkout import attention
from baskets.models import Partner
from tests.conftest import LongRun
from tests.factories import TESTER
from tests.model_based.callers import Domain, Http
from tests.model_based.clients import ClientStateMachine
from tests.model_based.desk import StaffStateMachine
from tests.model_based.machine import ShopStateMachine
from tests.model_based.shop import CART_LIMIT, SAVED_LIMIT
from tests.model_based.state import MAX_OPEN
from tests.tokens import KeyPair

QUICK = profile(
    max_examples=16,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


@contextmanager
def rolled_back() -> Iterator[None]:
    """One example, of which nothing stays."""
    before = transaction.savepoint()
    try:
        yield
    finally:
        transaction.savepoint_rollback(before)


def keys_of(partners: list[Partner]) -> list[str]:
    return [issue_api_key(partner_name=partner.name, actor=TESTER)[1] for partner in partners]


def login_of(partners: list[Partner]) -> KeyPair:
    """The login that both partners trust."""
    pair = KeyPair("ES256")
    for partner in partners:
        add_issuer(partner_name=partner.name, name="login", keys={"keys": [pair.jwk]}, unrestricted=True, actor=TESTER)
    return pair


@cache
def client() -> Client:
    """A client that keeps its middleware. No call sets a cookie."""
    return Client(raise_request_exception=False)


def in_this_process(method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    """Through the whole application, middleware and all."""
    kind = headers["Content-Type"] if body else ""
    answer = client().generic(method, path, body, content_type=kind, headers=dict(headers))
    return answer.status_code, answer.headers, answer.content


class OverTheDomain(ClientStateMachine, StaffStateMachine):
    around = staticmethod(rolled_back)
    caller = staticmethod(lambda partners: Domain([partner.pk for partner in partners]))


class OverHttp(ClientStateMachine, StaffStateMachine):
    around = staticmethod(rolled_back)
    caller = staticmethod(lambda partners: Http(send=in_this_process, keys=keys_of(partners), login=login_of(partners)))


@pytest.fixture(autouse=True)
def _small_lists(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MAX_OPEN", MAX_OPEN)
    settings.BASKETS_CART_LIMIT, settings.BASKETS_SAVED_LIMIT = CART_LIMIT, SAVED_LIMIT


@pytest.mark.no_cover  # Every line that it runs is measured in other tests, and measuring would cost half of its time again.
@pytest.mark.django_db
@pytest.mark.parametrize(("machine", "steps"), [(OverTheDomain, 40), (OverHttp, 20)])
def test_service_agrees_with_the_model(machine: type[ShopStateMachine], steps: int) -> None:
    run_state_machine_as_test(machine, settings=profile(QUICK, stateful_step_count=steps))


# --- The long programme -----------------------------------------------------------


def over_the_network(address: tuple[str, int]) -> Any:
    """As an app calls: one connection for each call."""

    def send(method: str, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        caller = http.client.HTTPConnection(*address, timeout=30)
        with closing(caller):
            caller.request(method, path, body, dict(headers))
            answer = caller.getresponse()
            return answer.status, answer.headers, answer.read()

    return send


@contextmanager
def empty_tables() -> Iterator[None]:
    """One example whose rows others can see: the next one starts with empty tables."""
    tables = ", ".join(model._meta.db_table for model in apps.get_app_config("baskets").get_models())
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables}")
    yield


def explored(machine: type[ShopStateMachine], long_run: LongRun, share: float) -> None:
    """Run one example after the other, each with choices that follow from the seed, until the time is over."""
    end = time.monotonic() + long_run.seconds * share
    while time.monotonic() < end:
        seeded = seed(long_run.rng.getrandbits(32))(type(machine.__name__, (machine,), {"steps": 0, "examples": 0}))
        run_state_machine_as_test(seeded, settings=profile(QUICK, derandomize=False, max_examples=10, stateful_step_count=60))
        long_run.record(examples=seeded.examples, steps=seeded.steps)


@pytest.mark.long
@pytest.mark.django_db
@pytest.mark.parametrize("machine", [OverTheDomain, OverHttp])
def test_service_agrees_with_the_model_for_a_long_time(machine: type[ShopStateMachine], long_run: LongRun) -> None:
    explored(machine, long_run, share=0.35)


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_service_agrees_with_the_model_over_the_network(live_server: Any, long_run: LongRun) -> None:
    address = live_server.thread.host, live_server.thread.port

    class OverTheNetwork(ClientStateMachine, StaffStateMachine):
        around = staticmethod(empty_tables)
        caller = staticmethod(lambda partners: Http(send=over_the_network(address), keys=keys_of(partners), login=login_of(partners)))

    explored(OverTheNetwork, long_run, share=0.3)
