"""finish-active over HTTP: every outcome, and the exact responses of the published reference."""

from datetime import timedelta
from typing import Any

import pytest
from django.db.models.functions import Now

from baskets.models import ApiKey, Attention, Partner
from tests.api.conftest import Api, PassTime, Sells, Stored, Unchanged

ALREADY_ORDERED = (422, 422, "checkout_already_ordered")
ABORTED = (422, 422, "checkout_aborted")
EXPIRED = (422, 422, "checkout_expired")
NONE_ACTIVE = (422, 422, "no_active_checkout")
UNKNOWN = (422, 422, "order_unknown")
NO_BASKET = (422, 2005, "basket_not_found")
HELD = {"productId": "held", "count": 2}
FREE = {"productId": "free", "count": 1}
FAILED = {"productId": "failed", "count": 3}


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("held", unsold=2)
    sells("free")
    sells("failed", unsold=1)
    sells("other")


@pytest.fixture
def order_no(api: Api) -> Any:
    """An active checkout with a held item, an unlimited item, and a failed item."""
    api.place("held", 2)
    api.place("free", 1)
    api.place("failed", 3)
    api.place("other", 0)
    return api.start().data["orderNo"]


def lists(answer: Any) -> Any:
    return {name: answer.data[name] for name in ("cart", "saved", "checkout")}


SAVED = [{"productId": "other", "count": 1}]
AFTER_ORDER = {"cart": [FAILED], "saved": SAVED, "checkout": []}
AFTER_ABORT = {"cart": [HELD, FREE, FAILED], "saved": SAVED, "checkout": []}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("lapsed", [False, True])
def test_active_checkout_is_ordered_lapsed_or_not(api: Api, order_no: str, pass_time: PassTime, named: bool, lapsed: bool) -> None:
    if lapsed:
        pass_time(timedelta(minutes=31))
    answer = api.finish(True, **({"order_no": order_no} if named else {}))
    assert lists(answer) == AFTER_ORDER
    assert api.session(order_no).data["status"] == "ORDERED"
    assert api.session(order_no).data["late"] is False


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("lapsed", [False, True])
def test_active_checkout_is_aborted_lapsed_or_not(api: Api, order_no: str, pass_time: PassTime, named: bool, lapsed: bool) -> None:
    if lapsed:
        pass_time(timedelta(minutes=31))
    answer = api.finish(False, **({"order_no": order_no} if named else {}))
    assert lists(answer) == AFTER_ABORT
    assert api.session(order_no).data["status"] == "ABORTED"


@pytest.mark.parametrize("named", [False, True])
def test_ordering_an_ordered_checkout_changes_nothing(api: Api, order_no: str, named: bool, unchanged: Unchanged) -> None:
    first = api.finish(True).data
    unchanged()
    assert api.finish(True, **({"order_no": order_no} if named else {})).data == first


@pytest.mark.parametrize("named", [False, True])
def test_ordered_checkout_cannot_be_aborted(api: Api, order_no: str, named: bool, unchanged: Unchanged) -> None:
    first = api.finish(True).data
    unchanged()
    answer = api.finish(False, **({"order_no": order_no} if named else {}))
    assert answer.refusal == ALREADY_ORDERED
    assert answer.body["data"] == first


def test_aborted_checkout_is_ordered_late_only_by_order_number(api: Api, order_no: str, stored_rows: Stored) -> None:
    aborted = api.finish(False).data
    before = stored_rows()
    refused = api.finish(True)
    assert refused.refusal == ABORTED
    assert refused.body["data"] == aborted
    after = stored_rows()
    assert {name for name in after if after[name] != before[name]} == {"baskets_attention", "baskets_basket", "baskets_event"}
    assert list(Attention.objects.values_list("reason", flat=True)) == ["checkout_aborted"]
    assert lists(api.finish(True, order_no=order_no)) == AFTER_ORDER
    assert api.session(order_no).data["late"] is True


@pytest.mark.parametrize("named", [False, True])
def test_aborting_an_aborted_checkout_changes_nothing(api: Api, order_no: str, named: bool, unchanged: Unchanged) -> None:
    first = api.finish(False).data
    unchanged()
    assert api.finish(False, **({"order_no": order_no} if named else {})).data == first


@pytest.fixture
def expired(api: Api, order_no: str, pass_time: PassTime) -> Any:
    """The checkout after the sweep: its items are back in the cart."""
    from baskets.domain.checkout import expiry  # noqa: PLC0415 (used by this stage only)

    pass_time(timedelta(minutes=31))
    expiry.sweep_sessions()
    assert api.session(order_no).data["status"] == "EXPIRED"
    return order_no


@pytest.mark.parametrize("named", [False, True])
def test_expired_checkout_is_ordered_late(api: Api, expired: str, named: bool) -> None:
    assert lists(api.finish(True, **({"order_no": expired} if named else {}))) == AFTER_ORDER
    session = api.session(expired).data
    assert (session["status"], session["late"]) == ("ORDERED", True)


@pytest.mark.parametrize("named", [False, True])
def test_aborting_an_expired_checkout_changes_nothing(api: Api, expired: str, named: bool, unchanged: Unchanged) -> None:
    before = api.basket()
    unchanged()
    assert api.finish(False, **({"order_no": expired} if named else {})).data == before


@pytest.mark.parametrize("named", [False, True])
def test_late_order_after_the_grace_period_is_refused(
    api: Api, expired: str, pass_time: PassTime, named: bool, unchanged: Unchanged
) -> None:
    pass_time(timedelta(hours=25))
    before = api.basket()
    unchanged(but=("baskets_attention", "baskets_event", "baskets_basket"))
    answer = api.finish(True, **({"order_no": expired} if named else {}))
    assert answer.refusal == EXPIRED
    assert answer.body["data"] == before
    assert list(Attention.objects.values_list("reason", flat=True)) == ["checkout_expired"]


def test_late_order_without_stock_is_refused_with_the_shortages(api: Api, expired: str, unchanged: Unchanged) -> None:
    api.place("held", 1, user="bob")
    api.start(user="bob")
    before = api.basket()
    unchanged(but=("baskets_attention", "baskets_event", "baskets_basket"))
    answer = api.finish(True)
    assert answer.refusal == (422, 422, "out_of_stock")
    assert answer.body["error"]["details"]["items"] == [{"productId": "held", "wanted": 2, "available": 1}]
    assert answer.body["data"] == before
    assert list(Attention.objects.values_list("reason", flat=True)) == ["out_of_stock"]


def test_late_order_without_stock_is_accepted_if_the_partner_allows_it(api: Api, partner: Partner, expired: str) -> None:
    Partner.objects.filter(pk=partner.pk).update(late_orders="accept")
    api.place("held", 1, user="bob")
    api.start(user="bob")
    assert lists(api.finish(True)) == AFTER_ORDER
    [first, *_] = api.session(expired).data["items"]
    assert (first["sold"], first["short"], first["ordered"]) == (1, 1, 2)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_call_without_order_number_ignores_checkouts_before_the_last_change(
    api: Api, order_no: str, ordered: bool, first: bool, unchanged: Unchanged
) -> None:
    finished = api.finish(first).data
    before = api.place("other", 5).data
    unchanged(but=("baskets_attention", "baskets_event", "baskets_basket") if ordered else ())
    answer = api.finish(ordered)
    assert answer.refusal == NONE_ACTIVE
    assert answer.body["data"] == before
    assert answer.body["error"]["details"]["lastCheckout"] == {
        "orderNo": order_no,
        "status": "ORDERED" if first else "ABORTED",
        "finishedAt": finished["lastChanged"],
    }


@pytest.mark.parametrize("ordered", [True, False])
def test_finish_without_any_checkout_is_refused(api: Api, ordered: bool, unchanged: Unchanged) -> None:
    before = api.place("free").data
    unchanged()
    answer = api.finish(ordered)
    assert answer.refusal == NONE_ACTIVE
    assert answer.body["data"] == before
    assert answer.body["error"]["details"] == {"reason": "no_active_checkout"}


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("active", [True, False])
def test_unknown_order_number_is_refused(api: Api, ordered: bool, active: bool, unchanged: Unchanged) -> None:
    api.place("held", user="bob")
    theirs = api.start(user="bob").data["orderNo"]
    api.place("free")
    if active:
        api.start()
    before = api.basket()
    unchanged()
    for named in (theirs, "0000-0000-0000-0000", "%", "'; --"):
        answer = api.finish(ordered, order_no=named)
        assert answer.refusal == UNKNOWN
        assert answer.body["data"] == before


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("body", [{}, {"orderNo": "0000-0000-0000-0000"}, {"orderNo": None}])
def test_finish_without_a_basket_is_a_422_with_2005_and_creates_nothing(api: Api, ordered: bool, body: Any, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.post("/baskets/users/ada/checkout/sessions/finish-active", {"ordered": ordered} | body)
    assert answer.refusal == NO_BASKET


def test_order_of_a_deleted_basket_can_still_be_finished(api: Api, order_no: str) -> None:
    api.finish(True)
    api.delete("/baskets/users/ada")
    assert api.finish(True, order_no=order_no).data == {"cart": [], "saved": [], "checkout": []}


@pytest.mark.parametrize("ordered", [True, False])
def test_unknown_order_number_of_a_deleted_basket_is_basket_not_found(api: Api, order_no: str, ordered: bool, unchanged: Unchanged) -> None:
    api.finish(True)
    api.delete("/baskets/users/ada")
    unchanged()
    assert api.finish(ordered, order_no="0000-0000-0000-0000").refusal == NO_BASKET


def test_null_order_number_counts_as_absent(api: Api, order_no: str) -> None:
    assert lists(api.finish(True, order_no=None)) == AFTER_ORDER


def test_order_number_may_be_in_lower_case(api: Api, order_no: str) -> None:
    assert lists(api.finish(True, order_no=order_no.lower())) == AFTER_ORDER


def test_late_repeat_by_order_number_never_hits_the_next_checkout(api: Api, order_no: str) -> None:
    api.finish(True, order_no=order_no)
    api.place("free", 4)
    second = api.start().data["orderNo"]
    before = api.basket()
    assert api.finish(True, order_no=order_no).data == before
    assert api.finish(False, order_no=order_no).refusal == ALREADY_ORDERED
    assert api.session(second).data["status"] == "ACTIVE"


@pytest.mark.parametrize("value", ["false", "true", "off", "", 0, 1, 1.0, 0.0, None, [], {}, [True], "null", "no"])
def test_ordered_must_be_a_json_boolean(api: Api, order_no: str, value: Any, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.post("/baskets/users/ada/checkout/sessions/finish-active", {"ordered": value})
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"ordered"}


@pytest.mark.parametrize("value", [1, True, [], {}, "", "x" * 256])
def test_order_number_must_be_a_string(api: Api, order_no: str, value: Any, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.finish(True, order_no=value)
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"orderNo"}


@pytest.mark.parametrize("raw", [None, b"{}", b'{"Ordered": true}'])
def test_finish_requires_the_outcome(api: Api, order_no: str, raw: bytes | None, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.request("POST", "/baskets/users/ada/checkout/sessions/finish-active", raw=raw)
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"ordered"}


def test_test_checkouts_are_finished_like_others(api: Api) -> None:
    api.place("failed", 3)
    api.start(query="?testMode=true")
    assert lists(api.finish(True)) == {"cart": [], "saved": [], "checkout": []}


@pytest.mark.parametrize("remembered", ["a key since revoked", "a key of other terms"])
def test_a_direct_order_is_made_for_the_key_as_it_is(api: Api, partner: Partner, stored_rows: Stored, remembered: str) -> None:
    """The key was cached before it changed, so the first statement of the order finds the change."""
    api.place("held", 2)
    api.start()
    if remembered == "a key of other terms":
        Partner.objects.filter(pk=partner.pk).update(name="another name")
        assert api.finish(True).status == 200
        return
    ApiKey.objects.update(revoked_at=Now())
    before = stored_rows()
    assert api.finish(True).refusal == (401, 401, "api_key_invalid")
    assert stored_rows() == before
