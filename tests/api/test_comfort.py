"""Comfort settings over HTTP: for users of the partner, with their consent, and encrypted at rest."""

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
    """Accept tokens that are plain user ids; `auth/test_bearer` tests the verification of real ones."""

    def verify(*, token: str, partner_id: int) -> BearerUser:
        kind, _, user = token.partition("-")
        return BearerUser(user_id=user, issuer=kind, guest=kind == "guest")

    monkeypatch.setattr(auth_bearer.bearer_tokens, "verify", verify)


def holding(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def user_app(app: Api) -> Api:
    """The app with the token of the user `ada`."""
    return Api(app.key, headers=holding("partner-ada"))


def test_stored_settings_are_shown_and_a_change_returns_the_basket(user_app: Api, sells: Sells) -> None:
    sells("p1")
    user_app.place("p1", 2)
    answer = user_app.patch(COMFORT, STORED)
    assert (answer.status, answer.data) == (200, user_app.basket())
    shown = user_app.get(COMFORT).data
    assert (shown["customerId"], shown["paymentToken"]) == SECRETS
    assert shown["consentedAt"].endswith("Z")


def test_settings_need_no_basket_and_create_none(user_app: Api) -> None:
    assert user_app.patch(f"/v2{COMFORT}", STORED).data == {"cart": [], "saved": [], "checkout": []}
    assert user_app.basket() == {"cart": [], "saved": [], "checkout": []}
    assert user_app.get(COMFORT).data["customerId"] == "cust-4711"


def test_each_field_changes_alone(user_app: Api) -> None:
    user_app.patch(COMFORT, STORED)
    since = user_app.get(COMFORT).data["consentedAt"]
    user_app.patch(COMFORT, {"customerId": "c-2", "consent": None})
    user_app.patch(COMFORT, {"paymentToken": None, "consent": True})
    user_app.patch(COMFORT, {})
    assert user_app.get(COMFORT).data == {"customerId": "c-2", "paymentToken": None, "consentedAt": since}


def test_withdrawn_consent_deletes_everything(user_app: Api) -> None:
    user_app.patch(COMFORT, STORED)
    assert user_app.patch(COMFORT, {"consent": False}).status == 200
    assert user_app.get(COMFORT).data == NOTHING
    assert not Comfort.objects.exists()


@pytest.mark.parametrize("body", [{"customerId": "c"}, {"paymentToken": "t", "consent": None}, {"customerId": "c", "consent": False}])
def test_nothing_is_stored_without_consent(user_app: Api, body: Any, unchanged: Unchanged) -> None:
    unchanged()
    answer = user_app.patch(COMFORT, body)
    assert answer.refusal == (422, 422, "consent_missing")
    assert answer.body["data"] == {"cart": [], "saved": [], "checkout": []}


@pytest.mark.parametrize("method", ["GET", "PATCH"])
def test_settings_require_a_user_of_the_partner(api: Api, app: Api, method: str, unchanged: Unchanged) -> None:
    unchanged()
    for caller in (api, app):
        for headers, refusal in (
            ({}, (401, 2002, "token_missing")),
            (holding("guest-ada"), (403, 403, "guest_not_allowed")),
            (holding("partner-bob"), (401, 2002, "token_user_mismatch")),
        ):
            assert caller.request(method, COMFORT, STORED, **headers).refusal == refusal
    assert app.request(method, COMFORT, STORED, **holding("guest-ada"), Accept="text/html").refusal[2] == "guest_not_allowed"


def test_server_key_works_with_the_token_of_the_user(api: Api) -> None:
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
def test_what_is_wrong_is_named(user_app: Api, body: Any, fields: set[str], unchanged: Unchanged) -> None:
    unchanged()
    answer = user_app.patch(COMFORT, body)
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), fields)


def test_repeat_is_replayed(user_app: Api) -> None:
    first = user_app.patch(COMFORT, STORED, Idempotency_Key="k")
    user_app.patch(COMFORT, {"consent": False})
    again = user_app.patch(COMFORT, STORED, Idempotency_Key="k")
    assert (again.raw, again.headers["Idempotency-Replayed"]) == (first.raw, "true")
    assert user_app.get(COMFORT).data == NOTHING


def test_settings_are_not_readable_in_tables_or_the_log(
    user_app: Api, stored_rows: Callable[[], Any], log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    user_app.patch(COMFORT, STORED, Idempotency_Key="k")
    user_app.get(COMFORT)
    stored = json.dumps(
        stored_rows(), default=lambda value: bytes(value).decode("latin-1") if isinstance(value, memoryview) else str(value)
    )
    for secret in SECRETS:
        assert secret not in stored
        assert secret not in log.text


def test_undecryptable_settings_count_as_absent(user_app: Api, settings: Any) -> None:
    user_app.patch(COMFORT, STORED)
    settings.SECRET_KEY = "another-" + "x" * 60
    assert user_app.get(COMFORT).data == NOTHING
    user_app.patch(COMFORT, {"customerId": "c-3", "paymentToken": None})
    assert user_app.get(COMFORT).data["customerId"] == "c-3"
