"""One call sent a hundred times at one moment, over HTTP: with one Idempotency-Key it is done once, without it the state decides."""

from collections import Counter
from typing import Any

import pytest
from django.test import Client

from baskets.domain.access.api_keys import issue_api_key
from baskets.models import Event, IdempotencyRecord, Partner
from tests.concurrency.barrier import run_concurrently
from tests.domain.scenarios import User, available
from tests.factories import TESTER

CROWD = 100


@pytest.fixture
def key(shopper: User) -> str:
    return issue_api_key(partner_name=Partner.objects.get().name, actor=TESTER)[1]


def crowd(key: str, method: str, path: str, body: Any, **headers: str) -> list[Any]:
    """The same call from everybody at once."""
    sent = {"X-API-Key": key, **headers}

    def call() -> Any:
        # On a slow machine a call may get a lock timeout; it calls again, as the answer allows.
        for _ in range(20):
            answer = Client(raise_request_exception=False).generic(
                method, f"/baskets/users/anna{path}", body, content_type="application/json" if body else "", headers=sent
            )
            if answer.status_code != 503:
                break
        return answer

    answers = run_concurrently([call] * CROWD)
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


@pytest.mark.parametrize(
    ("path", "body", "kind"),
    [
        ("/checkout/sessions", b"", "checkout_started"),
        ("/checkout/sessions/finish-active", b'{"ordered": true}', "checkout_ordered"),
    ],
)
def test_hundred_calls_with_one_idempotency_key_execute_once(shopper: User, key: str, path: str, body: bytes, kind: str) -> None:
    shopper.place("shirt", 3)
    if "finish" in path:
        shopper.start()
    before = Event.objects.filter(kind=kind).count()
    answers = crowd(key, "POST", path, body, **{"Idempotency-Key": "once"})
    assert Counter(answer.status_code for answer in answers) == {200: CROWD}
    assert Counter(answer.headers.get("Idempotency-Replayed") for answer in answers) == {None: 1, "true": CROWD - 1}
    assert len({answer.content for answer in answers}) == 1
    assert Event.objects.filter(kind=kind).count() == before + 1
    assert IdempotencyRecord.objects.count() == 1


def test_hundred_orders_without_a_key_make_one_order(shopper: User, key: str) -> None:
    shopper.place("shirt", 3)
    shopper.start()
    answers = crowd(key, "POST", "/checkout/sessions/finish-active", b'{"ordered": true}')
    assert Counter(answer.status_code for answer in answers) == {200: CROWD}
    assert len({answer.content for answer in answers}) == 1
    assert Event.objects.filter(kind="checkout_ordered").count() == 1
    assert available("shirt") == (7, 0)
