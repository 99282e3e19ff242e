"""Comfort settings over HTTP: for users whom the partner knows, with their consent, and in clear for nobody else."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from baskets.api.auth import bearer as auth_bearer
from baskets.domain.access.bearer_tokens import BearerUser
from baskets.models import Comfort
from tests.api.conftest import Api, Sells, Unchanged
from tests.conftest import Log

COMFORT = "/baskets/users/ada/comfort"
NOTHING = {"customerId": None, "paymentToken": None, "consentedAt": None}
STORED = {"customerId": "cust-4711", "paymentToken": "tok-0815", "consent": True}
SECRETS = ("cust-4711", "tok-0815")


@pytest.fixture(autouse=True)
def bearer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that name a user in clear; how real ones are verified is tested elsewhere."""

    def verify(*, token: str, partner_id: int) -> BearerUser:
        kind, _, user = token.partition("-")
        return BearerUser(user_id=user, issuer=kind, guest=kind == "guest")

    monkeypatch.setattr(auth_bearer.bearer_tokens, "verify", verify)


def holding(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def ada(app: Api) -> Api:
    """Ada's own app."""
    return Api(app.key, headers=holding("partner-ada"))


def test_what_is_stored_is_shown_to_the_user_and_answered_with_the_basket(ada: Api, sells: Sells) -> None:
    sells("p1")
    ada.place("p1", 2)
    answer = ada.patch(COMFORT, STORED)
    assert (answer.status, answer.data) == (200, ada.basket())
    shown = ada.get(COMFORT).data
    assert (shown["customerId"], shown["paymentToken"]) == SECRETS
    assert shown["consentedAt"].endswith("Z")


def test_there_need_not_be_a_basket_and_none_is_made(ada: Api) -> None:
    assert ada.patch(f"/v2{COMFORT}", STORED).data == {"cart": [], "saved": [], "checkout": []}
    assert ada.basket() == {"cart": [], "saved": [], "checkout": []}
    assert ada.get(COMFORT).data["customerId"] == "cust-4711"


def test_each_field_changes_alone(ada: Api) -> None:
    ada.patch(COMFORT, STORED)
    since = ada.get(COMFORT).data["consentedAt"]
    ada.patch(COMFORT, {"customerId": "c-2", "consent": None})
    ada.patch(COMFORT, {"paymentToken": None, "consent": True})
    ada.patch(COMFORT, {})
    assert ada.get(COMFORT).data == {"customerId": "c-2", "paymentToken": None, "consentedAt": since}


def test_taking_the_consent_back_deletes_everything(ada: Api) -> None:
    ada.patch(COMFORT, STORED)
    assert ada.patch(COMFORT, {"consent": False}).status == 200
    assert ada.get(COMFORT).data == NOTHING
    assert not Comfort.objects.exists()


@pytest.mark.parametrize("body", [{"customerId": "c"}, {"paymentToken": "t", "consent": None}, {"customerId": "c", "consent": False}])
def test_nothing_is_stored_without_consent(ada: Api, body: Any, unchanged: Unchanged) -> None:
    unchanged()
    answer = ada.patch(COMFORT, body)
    assert answer.refusal == (422, 422, "consent_missing")
    assert answer.body["data"] == {"cart": [], "saved": [], "checkout": []}


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_only_a_user_whom_the_partner_knows_gets_in(api: Api, app: Api, method: str, unchanged: Unchanged) -> None:
    unchanged()
    for caller in (api, app):
        for headers, refusal in (
            ({}, (401, 2002, "token_missing")),
            (holding("guest-ada"), (403, 403, "guest_not_allowed")),
            (holding("partner-bob"), (401, 2002, "token_user_mismatch")),
        ):
            assert caller.request(method, COMFORT, STORED, **headers).refusal == refusal
    assert app.request(method, COMFORT, STORED, **holding("guest-ada"), Accept="text/html").refusal[2] == "guest_not_allowed"


def test_a_server_key_is_as_good_with_the_users_token(api: Api) -> None:
    assert api.patch(COMFORT, STORED, **holding("partner-ada")).status == 200


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"customerId": ""}, {"customerId"}),
        ({"customerId": 5, "paymentToken": ["x"], "consent": "true"}, {"customerId", "paymentToken", "consent"}),
        ({"customerId": "x" * 256, "paymentToken": "x" * 4097}, {"customerId", "paymentToken"}),
        ({"customerId": "a\x00b", "paymentToken": "\ud800"}, {"customerId", "paymentToken"}),
        ([], {"body"}),
    ],
)
def test_what_is_wrong_is_named(ada: Api, body: Any, fields: set[str], unchanged: Unchanged) -> None:
    unchanged()
    answer = ada.patch(COMFORT, body)
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), fields)


def test_a_repeat_is_answered_and_not_done_again(ada: Api) -> None:
    first = ada.patch(COMFORT, STORED, Idempotency_Key="k")
    ada.patch(COMFORT, {"consent": False})
    again = ada.patch(COMFORT, STORED, Idempotency_Key="k")
    assert (again.raw, again.headers["Idempotency-Replayed"]) == (first.raw, "true")
    assert ada.get(COMFORT).data == NOTHING


def test_nobody_finds_it_in_a_table_or_in_the_log(
    ada: Api, everything_stored: Callable[[], Any], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    ada.patch(COMFORT, STORED, Idempotency_Key="k")
    ada.get(COMFORT)
    stored = json.dumps(
        everything_stored(), default=lambda value: bytes(value).decode("latin-1") if isinstance(value, memoryview) else str(value)
    )
    for secret in SECRETS:
        assert secret not in stored
        assert secret not in log.text


def test_what_no_key_can_read_is_as_if_it_were_not_there(ada: Api, settings: Any) -> None:
    ada.patch(COMFORT, STORED)
    settings.SECRET_KEY = "another-" + "x" * 60
    assert ada.get(COMFORT).data == NOTHING
    ada.patch(COMFORT, {"customerId": "c-3", "paymentToken": None})
    assert ada.get(COMFORT).data["customerId"] == "c-3"
