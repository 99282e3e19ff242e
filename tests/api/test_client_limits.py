"""The limits of client keys: guests, starts and pieces, per key, per source, and by the age of the guest."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from baskets.domain.access import rate_limits
from baskets.domain.retries import StockChanged
from baskets.domain.stock import counters
from baskets.models import ApiKey, Basket, CheckoutSession, GuestToken, Throttle
from tests.api.conftest import Api, Issue, Lines, PassTime, Sells, Unchanged

THROTTLED = (429, 503, "throttled")
GUESTS = "/baskets/guests"


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("shirt", unsold=500)
    sells("rare", unsold=1)
    sells("song")


def guest_of(app: Api, **counts: int) -> Api:
    """Return the app with the token of a new guest that has these products in the cart."""
    products = [{"productId": product_id, "count": count} for product_id, count in counts.items()]
    guest = app.post(GUESTS, {"products": products}).data
    return Guest(app.key, headers={"Authorization": f"Bearer {guest['jwt']}"}, client=app.client, user=guest["userId"])


class Guest(Api):
    """The app of one guest."""

    def __init__(self, *args: Any, user: str, **options: Any) -> None:
        super().__init__(*args, **options)
        self.user = user

    def buy(self) -> Any:
        """Start a checkout."""
        return self.start(user=self.user)


def come_from(api: Api, address: str) -> None:
    api.client.defaults["REMOTE_ADDR"] = address


def limit(settings: Settings, **limits: int) -> None:
    for name, value in limits.items():
        setattr(settings, f"BASKETS_{name.upper()}", value)


def test_start_that_returns_the_stored_response_of_another_call_counts_nothing(
    app: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(settings, starts_per_key=2)
    guest, next_guest, last_guest = (guest_of(app, shirt=1) for _ in range(3))
    outcomes = []

    def start() -> None:
        outcomes.append(guest.post(f"/baskets/users/{guest.user}/checkout/sessions", {}, **{"Idempotency-Key": "one"}))

    class Overtaken(StockChanged):
        """The first try has counted and is rolled back; before the second one the faster call commits."""

        prepare = staticmethod(start)

    def reserve_after_the_faster_call(_: Any) -> None:
        monkeypatch.undo()
        raise Overtaken

    monkeypatch.setattr(counters, "reserve_or_retry", reserve_after_the_faster_call)
    start()
    assert [outcome.headers.get("Idempotency-Replayed") for outcome in outcomes] == [None, "true"]
    assert outcomes[0].raw == outcomes[1].raw
    assert (next_guest.buy().status, last_guest.buy().refusal) == (200, THROTTLED)


# --- Guests -----------------------------------------------------------------------------------------


def test_device_that_takes_a_basket_over_counts_as_a_guest(app: Api, settings: Settings) -> None:
    limit(settings, guests_per_source=3)
    come_from(app, "192.0.2.1")
    guest = guest_of(app, shirt=1)

    def take_over() -> Any:
        token = guest.post(f"/baskets/users/{guest.user}/transfer", {}).data["jayToken"]
        return app.post(f"{GUESTS}?jayToken={token}", {})

    assert [take_over().status for _ in range(2)] == [200] * 2
    assert take_over().refusal == THROTTLED
    assert app.post(f"{GUESTS}?jayToken=unknown", {}).refusal == THROTTLED
    assert GuestToken.objects.count() == 3


def test_guests_per_source_and_window_are_limited(app: Api, settings: Settings, lines: Lines) -> None:
    limit(settings, guests_per_source=3)
    come_from(app, "192.0.2.1")
    assert [app.post(GUESTS, {}).status for _ in range(3)] == [200] * 3
    refused = app.post(GUESTS, {})
    assert refused.refusal == THROTTLED
    assert 595 <= int(refused.headers["Retry-After"]) <= 600
    assert Basket.objects.count() == 3
    assert {(line["what"], line["per"], line["key"]) for line in lines("client_limited")} == {
        ("guests", "source", str(app.key).split("_")[1])
    }
    come_from(app, "192.0.2.2")
    assert app.post(GUESTS, {}).status == 200


def test_network_of_ipv6_is_one_source(app: Api, settings: Settings) -> None:
    limit(settings, guests_per_source=2)
    statuses = []
    for address in ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", "2001:db8:0:1::3", "2001:db8:0:2::1"):
        come_from(app, address)
        statuses.append(app.post(GUESTS, {}).status)
    assert statuses == [200, 200, 429, 200]


def test_guests_per_key_are_limited_across_sources(app: Api, issue: Issue, settings: Settings) -> None:
    limit(settings, guests_per_key=2)
    statuses = []
    for number in range(3):
        come_from(app, f"192.0.2.{number}")
        statuses.append(app.post(GUESTS, {}).status)
    assert statuses == [200, 200, 429]
    assert Api(issue(kind=ApiKey.Kind.CLIENT)).post(GUESTS, {}).status == 200


def test_server_key_is_not_limited(api: Api, settings: Settings) -> None:
    limit(settings, guests_per_key=1, guests_per_source=1, starts_per_key=1, starts_per_source=1, pieces_per_key=1, pieces_per_source=1)
    assert [api.post(GUESTS, {}).status for _ in range(3)] == [200] * 3
    for user in ("ada", "eve"):
        api.place("shirt", 30, user=user)
        assert api.start(user=user).status == 200


def test_zero_is_no_limit(app: Api, settings: Settings) -> None:
    limit(settings, guests_per_key=0, guests_per_source=0, starts_per_key=0, starts_per_source=0, pieces_per_key=0, pieces_per_source=0)
    for _ in range(3):
        assert guest_of(app, shirt=2).buy().status == 200
    assert not Throttle.objects.exists()


def test_window_that_is_over_counts_from_zero(app: Api, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(settings, guests_per_source=1)
    assert [app.post(GUESTS, {}).status for _ in range(2)] == [200, 429]
    now = rate_limits.time.monotonic()
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now + 599)
    assert app.post(GUESTS, {}).status == 429
    monkeypatch.setattr(rate_limits.time, "monotonic", lambda: now + 601)
    Throttle.objects.update(ends_at="2020-01-01T00:00:00Z")
    assert [app.post(GUESTS, {}).status for _ in range(2)] == [200, 429]


# --- Starts and pieces ----------------------------------------------------------------------------------


def test_starts_per_source_are_limited(app: Api, settings: Settings, unchanged: Unchanged) -> None:
    limit(settings, starts_per_source=2)
    guests = [guest_of(app, shirt=1) for _ in range(3)]
    assert [guest.buy().status for guest in guests[:2]] == [200, 200]
    unchanged()
    refused = guests[2].buy()
    assert refused.refusal == THROTTLED
    assert "data" not in refused.body


def test_pieces_per_key_are_limited_and_a_smaller_start_succeeds(app: Api, settings: Settings) -> None:
    limit(settings, pieces_per_key=12)
    assert guest_of(app, shirt=7).buy().status == 200
    assert guest_of(app, shirt=6).buy().refusal == THROTTLED
    assert guest_of(app, shirt=5).buy().status == 200
    assert guest_of(app, shirt=1).buy().refusal == THROTTLED
    # Unlimited products hold nothing.
    assert guest_of(app, song=9).buy().status == 200


def test_sold_pieces_stay_counted_so_a_stolen_key_cannot_sell_in_rounds(app: Api, settings: Settings) -> None:
    limit(settings, pieces_per_source=10)
    first = guest_of(app, shirt=10)
    assert first.buy().status == 200
    assert first.finish(True, user=first.user).status == 200
    assert guest_of(app, shirt=1).buy().refusal == THROTTLED


def test_start_that_is_refused_counts_nothing(app: Api, settings: Settings) -> None:
    limit(settings, starts_per_source=1, pieces_per_source=3)
    assert [guest_of(app).buy().refusal for _ in range(3)] == [(422, 422, "cart_empty")] * 3
    assert [guest_of(app, rare=3).buy().refusal for _ in range(3)] == [(422, 422, "out_of_stock")] * 3
    assert guest_of(app, shirt=3).buy().status == 200
    assert guest_of(app, song=1).buy().refusal == THROTTLED


def test_pieces_that_failed_are_not_counted(app: Api, settings: Settings) -> None:
    limit(settings, pieces_per_source=5)
    assert guest_of(app, shirt=2, rare=2).buy().data["basket"]["checkout"][1]["stocked"] == -1
    assert guest_of(app, shirt=3).buy().status == 200
    assert guest_of(app, shirt=1).buy().refusal == THROTTLED


def test_repeat_gets_its_answer_and_is_not_counted(app: Api, settings: Settings) -> None:
    limit(settings, starts_per_source=1)
    guest = guest_of(app, shirt=1)
    path = f"/baskets/users/{guest.user}/checkout/sessions"
    first = guest.post(path, {}, Idempotency_Key="once")
    assert first.status == 200
    for _ in range(3):
        assert guest.post(path, {}, Idempotency_Key="once").raw == first.raw
    assert guest_of(app, shirt=1).buy().refusal == THROTTLED


def test_finish_is_never_limited(app: Api, settings: Settings) -> None:
    limit(settings, starts_per_source=1, starts_per_key=1, pieces_per_key=1, pieces_per_source=1)
    guest = guest_of(app, shirt=1)
    assert guest.buy().status == 200
    assert guest_of(app, shirt=1).buy().refusal == THROTTLED
    assert [guest.finish(True, user=guest.user).status for _ in range(20)] == [200] * 20


# --- New guests -----------------------------------------------------------------------------------------


def stocked(answer: Any) -> list[int | None]:
    return [item["stocked"] for item in answer.data["basket"]["checkout"]]


def test_new_guest_holds_few_pieces(app: Api, pass_time: PassTime) -> None:
    guest = guest_of(app, shirt=21, song=500)
    assert stocked(guest.buy()) == [-1, None]
    guest.finish(False, user=guest.user)
    pass_time(timedelta(minutes=9, seconds=50), user=guest.user)
    assert stocked(guest.buy())[0] == -1
    guest.finish(False, user=guest.user)
    pass_time(timedelta(seconds=11), user=guest.user)
    assert stocked(guest.buy())[0] == 21


def test_pieces_of_a_new_guest_are_counted_over_all_its_products(app: Api, sells: Sells) -> None:
    for name in ("cap", "mug", "pin"):
        sells(name, unsold=50)
    assert stocked(guest_of(app, shirt=12, cap=9, mug=8, pin=1).buy()) == [12, -1, 8, -1]
    refused = guest_of(app, shirt=21).buy()
    assert refused.refusal == (422, 422, "out_of_stock")
    assert refused.body["error"]["details"]["items"] == [{"productId": "shirt", "wanted": 21, "available": 20}]


def test_new_guest_holds_the_limit_itself(app: Api) -> None:
    assert stocked(guest_of(app, shirt=20).buy()) == [20]


def test_guest_of_a_server_key_and_user_of_the_partner_are_not_limited(api: Api) -> None:
    guest = api.post(GUESTS, {"products": [{"productId": "shirt", "count": 200}]}).data["userId"]
    api.place("shirt", 200)
    assert [stocked(api.start(user=user)) for user in (guest, "ada")] == [[200], [200]]


def test_smaller_of_two_limits_of_pieces_holds(app: Api, settings: Settings) -> None:
    limit(settings, pieces_per_checkout=4)
    assert stocked(guest_of(app, shirt=6, song=1).buy()) == [-2, None]
    limit(settings, pieces_per_checkout=40)
    assert stocked(guest_of(app, shirt=22, song=1).buy()) == [-2, None]
    limit(settings, new_guest_pieces=0)
    assert stocked(guest_of(app, shirt=42, song=1).buy()) == [-2, None]


# --- What they cost ---------------------------------------------------------------------------------------


def statements_of_a_start(app: Api) -> int:
    guest = guest_of(app, shirt=1)
    with CaptureQueriesContext(connection) as captured:
        assert guest.buy().status == 200
    return len(captured)


def test_limits_take_no_statement_for_an_ordinary_caller(app: Api, settings: Settings) -> None:
    statements_of_a_start(app)
    limited = statements_of_a_start(app)
    limit(settings, guests_per_key=0, guests_per_source=0, starts_per_key=0, starts_per_source=0, pieces_per_key=0, pieces_per_source=0)
    assert statements_of_a_start(app) == limited
    assert not Throttle.objects.exists()


def test_busy_source_takes_counts_in_blocks(app: Api) -> None:
    """By default a process grants 10 guests of a source without a statement, and then reserves 100 at once."""
    for _ in range(10):
        app.post(GUESTS, {})
    assert not Throttle.objects.exists()
    for _ in range(20):
        app.post(GUESTS, {})
    assert [row.count for row in Throttle.objects.all()] == [100]


def test_flood_beyond_the_limit_takes_no_statement(app: Api, settings: Settings) -> None:
    limit(settings, guests_per_source=1)
    app.post(GUESTS, {})
    assert app.post(GUESTS, {}).refusal == THROTTLED
    with CaptureQueriesContext(connection) as captured:
        assert app.post(GUESTS, {}).refusal == THROTTLED
    assert not any("baskets_throttle" in query["sql"] for query in captured)


def test_session_of_a_refused_start_is_not_stored(app: Api, settings: Settings) -> None:
    limit(settings, starts_per_key=1)
    guest_of(app, shirt=1).buy()
    guest_of(app, shirt=1).buy()
    assert CheckoutSession.objects.count() == 1
