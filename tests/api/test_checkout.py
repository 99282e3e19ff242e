"""The start of a checkout, and the detail of a session in each state."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest

from baskets.domain import runner
from baskets.domain.support import checkout_repairs, reservation_repairs
from baskets.models import CheckoutSession, Partner, StockReservation
from tests.api.conftest import Api, PassTime, Sells, Unchanged
from tests.factories import TESTER


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("limited", unsold=5, price=1000)
    sells("unlimited", price=250)
    sells("scarce", unsold=1, price=999)


def test_start_moves_the_whole_cart_and_shows_the_purchase(api: Api) -> None:
    api.place("limited", 2)
    api.place("unlimited", 3)
    api.place("scarce", 4)
    api.place("unlimited", 3)
    started = api.start().data
    basket = started.pop("basket")
    assert re.fullmatch(r"[0-9A-Z-]{8,32}", started.pop("orderNo"))
    hold = datetime.fromisoformat(started.pop("expires")) - datetime.fromisoformat(basket["lastChanged"])
    assert hold == timedelta(minutes=30)
    assert started == {
        "currency": "EUR",
        "fullPrice": 2 * 1000 + 3 * 250,
        "fullTax": None,
        "shippingCost": None,
        "testMode": False,
    }
    assert (basket["cart"], basket["saved"]) == ([], [])
    assert basket["checkout"] == [
        {"productId": "limited", "count": 2, "stocked": 2},
        {"productId": "unlimited", "count": 3, "stocked": None},
        {"productId": "scarce", "count": 4, "stocked": -3},
    ]
    assert api.basket() == basket


def test_saved_list_stays_and_the_cart_is_empty_after_a_start(api: Api) -> None:
    api.place("limited")
    api.place("unlimited", 0)
    assert api.start().data["basket"]["saved"] == [{"productId": "unlimited", "count": 1}]
    assert api.place("scarce").data["cart"] == [{"productId": "scarce", "count": 1}]


def test_options_of_a_start_are_stored(api: Api) -> None:
    api.place("limited")
    path = "/baskets/users/ada/checkout/sessions"
    api.post(path, {"language": "DE", "country": "at", "stripeUsingSdk": True})
    session = CheckoutSession.objects.get()
    assert (session.language, session.country, session.stripe_using_sdk) == ("de", "AT", True)


@pytest.mark.parametrize("body", [{}, {"language": None, "country": None, "stripeUsingSdk": None}, {"language": ""}])
def test_options_of_a_start_are_optional(api: Api, body: Any) -> None:
    api.place("limited")
    assert api.post("/baskets/users/ada/checkout/sessions", body).status == 200
    session = CheckoutSession.objects.get()
    assert (session.language, session.country, session.stripe_using_sdk) == ("", "", False)


@pytest.mark.parametrize(
    "field", [{"language": "deu"}, {"language": "d"}, {"language": "d1"}, {"language": 1}, {"language": "ß"},
              {"language": "öä"}, {"country": "DEU"}, {"country": True}, {"country": "D\n"},
              {"stripeUsingSdk": "false"}, {"stripeUsingSdk": 0}, {"stripeUsingSdk": 1}],
)  # fmt: skip
def test_malformed_option_is_refused(api: Api, field: Any, unchanged: Unchanged) -> None:
    api.place("limited")
    unchanged()
    answer = api.post("/baskets/users/ada/checkout/sessions", field)
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == set(field)


def test_empty_cart_cannot_be_checked_out(api: Api, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.start()
    assert answer.refusal == (422, 422, "cart_empty")
    assert answer.body["data"] == {"cart": [], "saved": [], "checkout": []}


def test_second_start_is_refused_with_the_active_checkout(api: Api, unchanged: Unchanged) -> None:
    api.place("limited")
    started = api.start().data
    before = api.place("unlimited").data
    unchanged()
    answer = api.start()
    assert answer.refusal == (423, 423, "checkout_active")
    assert answer.body["error"]["details"]["activeCheckout"] == {
        "orderNo": started["orderNo"],
        "expires": started["expires"],
    }
    assert answer.body["data"] == before


def test_start_after_the_hold_expires_the_lapsed_checkout_first(api: Api, pass_time: PassTime) -> None:
    api.place("limited", 2)
    first = api.start().data["orderNo"]
    pass_time(timedelta(minutes=31))
    second = api.start().data
    assert second["orderNo"] != first
    assert second["basket"]["checkout"] == [{"productId": "limited", "count": 2, "stocked": 2}]
    assert api.session(first).data["status"] == "EXPIRED"


def test_start_without_any_stock_changes_nothing(api: Api, unchanged: Unchanged) -> None:
    before = api.place("scarce", 2).data
    unchanged()
    answer = api.start()
    assert answer.refusal == (422, 422, "out_of_stock")
    assert answer.body["error"]["details"]["items"] == [{"productId": "scarce", "wanted": 2, "available": 1}]
    assert answer.body["data"] == before


@pytest.mark.parametrize("query", ["?testMode=true", "?provider_id=netflix&testMode=true"])
def test_test_checkout_holds_nothing(api: Api, query: str) -> None:
    api.place("scarce", 4)
    started = api.start(query=query).data
    assert started["testMode"] is True
    assert started["basket"]["checkout"] == [{"productId": "scarce", "count": 4, "stocked": None}]
    assert api.session(started["orderNo"]).data["testMode"] is True


@pytest.mark.parametrize(
    "value", ["True", "1", "yes", "", "TRUE", "true ", "on", "%00", "null", "true&testMode=false", "true&testMode=true"]
)
def test_test_mode_must_be_true_or_false(api: Api, value: Any, unchanged: Unchanged) -> None:
    api.place("limited")
    unchanged()
    answer = api.start(query=f"?testMode={value}")
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"testMode"}


def test_test_mode_may_be_false(api: Api) -> None:
    api.place("limited")
    assert api.start(query="?testMode=false").data["testMode"] is False


def test_test_checkout_of_a_product_without_price_has_no_price(api: Api, sells: Sells) -> None:
    sells("free", price=None, currency="")
    api.place("free")
    started = api.start().data
    assert (started["currency"], started["fullPrice"]) == (None, None)


# --- What became of a checkout ------------------------------------------------------


def item(product: str, count: Any, **more: Any) -> Any:
    return {
        "productId": product, "count": count, "stocked": None, "held": None,
        "sold": 0, "released": 0, "short": 0, "ordered": 0, "reversed": 0,
    } | more  # fmt: skip


def test_active_checkout_shows_held_pieces(api: Api, sells: Sells) -> None:
    sells("v-m", variant="M", main_product_id="v")
    for product, count in (("limited", 2), ("v-m", 1), ("scarce", 3)):
        api.place(product, count)
    started = api.start().data
    session = api.session(started["orderNo"]).data
    assert re.fullmatch(r".*T.*Z", session.pop("startedAt"))
    assert session == {
        "orderNo": started["orderNo"],
        "status": "ACTIVE",
        "expires": started["expires"],
        "finishedAt": None,
        "reversedAt": None,
        "late": False,
        "testMode": False,
        "items": [
            item("limited", 2, stocked=2, held=2),
            item("v-m", 1, variant="M", mainProductIdentifier="v"),
            item("scarce", 3, stocked=-2, held=0),
        ],
    }


def test_ordered_checkout_shows_sold_pieces(api: Api) -> None:
    for product, count in (("limited", 2), ("unlimited", 1), ("scarce", 3)):
        api.place(product, count)
    order_no = api.start().data["orderNo"]
    finished = api.finish(True).data
    session = api.session(order_no).data
    assert (session["status"], session["finishedAt"], session["late"]) == ("ORDERED", finished["lastChanged"], False)
    assert session["items"] == [
        item("limited", 2, stocked=2, held=2, sold=2, ordered=2),
        item("unlimited", 1, ordered=1),
        item("scarce", 3, stocked=-2, held=0),
    ]


def test_aborted_checkout_shows_released_pieces(api: Api) -> None:
    api.place("limited", 2)
    order_no = api.start().data["orderNo"]
    api.finish(False)
    session = api.session(order_no).data
    assert session["status"] == "ABORTED"
    assert session["items"] == [item("limited", 2, stocked=2, held=2, released=2)]


def test_order_accepted_short_shows_the_shortage(api: Api, partner: Partner) -> None:
    Partner.objects.filter(pk=partner.pk).update(late_orders="accept")
    api.place("limited", 3)
    order_no = api.start().data["orderNo"]
    api.finish(False)
    api.place("limited", 3, user="bob")
    api.start(user="bob")
    api.finish(True, order_no=order_no)
    session = api.session(order_no).data
    assert (session["status"], session["late"]) == ("ORDERED", True)
    assert session["items"] == [item("limited", 3, stocked=3, held=3, released=3, sold=2, short=1, ordered=3)]


def test_reversed_order_shows_its_reversal_everywhere(api: Api) -> None:
    for product, count in (("limited", 2), ("unlimited", 1), ("scarce", 3)):
        api.place(product, count)
    order_no = api.start().data["orderNo"]
    api.finish(True)
    assert api.session(order_no).data["reversedAt"] is None
    session = CheckoutSession.objects.get()
    events = session.basket.events
    runner.run(checkout_repairs.reverse_order, session=session, expected_events=events, reason="sent back", actor=TESTER)
    shown = api.session(order_no).data
    (listed,) = api.get("/baskets/checkout/sessions").data
    *_, reversal, _ = api.get("/baskets/events").data
    assert (reversal["kind"], reversal["orderNo"]) == ("checkout_reversed", order_no)
    assert (shown["status"], shown["reversedAt"]) == ("ORDERED", reversal["at"])
    assert shown["items"] == [
        item("limited", 2, stocked=2, held=2, sold=2, ordered=2, reversed=2),
        item("unlimited", 1, ordered=1, reversed=1),
        item("scarce", 3, stocked=-2, held=0),
    ]
    assert {name: listed[name] for name in shown} == shown
    items = [{"productId": "limited", "count": 2}, {"productId": "unlimited", "count": 1}]
    assert reversal["data"] == {"orderNo": order_no, "items": items, "returned": {"limited": 2}}


def test_pieces_released_by_staff_show_as_held_and_released(api: Api) -> None:
    for product, count in (("limited", 2), ("unlimited", 1)):
        api.place(product, count)
    order_no = api.start().data["orderNo"]
    hold = StockReservation.objects.get()
    runner.run(reservation_repairs.release, reservation=hold, expected_events=3, reason="needed elsewhere", actor=TESTER)
    assert api.basket()["checkout"][0] == {"productId": "limited", "count": 2, "stocked": -2}
    assert api.session(order_no).data["items"][0] == item("limited", 2, stocked=-2, held=2, released=2)


def test_order_number_may_be_in_lower_case(api: Api) -> None:
    api.place("limited")
    order_no = api.start().data["orderNo"]
    assert api.session(order_no.lower()).data["orderNo"] == order_no


def test_order_number_of_another_user_is_unknown(api: Api, other_partner: Api) -> None:
    api.place("limited")
    order_no = api.start().data["orderNo"]
    for answer in (api.session(order_no, user="bob"), other_partner.session(order_no), api.session("no-such")):
        assert answer.refusal == (404, 404, "order_unknown")
        assert "data" not in answer.body


@pytest.mark.parametrize("order_no", ["%00", "A%0AB", "x" * 256])
def test_malformed_order_number_is_invalid(api: Api, order_no: str) -> None:
    assert api.session(order_no).fields == {"orderNo"}


def test_orders_of_a_deleted_basket_can_still_be_read(api: Api) -> None:
    api.place("limited")
    order_no = api.start().data["orderNo"]
    api.finish(True)
    api.place("unlimited")
    api.delete("/baskets/users/ada")
    assert api.session(order_no).data["status"] == "ORDERED"
