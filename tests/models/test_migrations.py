"""The effect of a migration on rows that an earlier version has written."""

import importlib
from contextlib import suppress

import pytest
from django.db import connection

from baskets.domain import runner
from baskets.domain.checkout import attention
from baskets.domain.errors import Refusal
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import checkout_repairs, reservation_repairs
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession, Event, Partner, StockReservation
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import TESTER, ProductFactory

REVERSALS = importlib.import_module("baskets.migrations.0020_reversals")


def events_of(user: User) -> int:
    return Basket.objects.get(pk=user.owner.basket_id).events


def aborted(user: User) -> str:
    order_no = user.start().session.order_no
    user.finish(False)
    with suppress(Refusal):
        user.finish(True)
    return order_no


def build(shopper: User, other_shopper: User, third_shopper: User) -> dict[str, str]:
    """Build baskets with a late order, a reversed short order, a hold that staff released, and more flags than the limit."""
    ProductFactory(product_id="shirt", unsold=9)
    ProductFactory(product_id="song")
    Partner.objects.update(late_orders="accept")
    shopper.place("shirt", 2)
    numbers = {"ordered": aborted(shopper)}
    shopper.finish(True, numbers["ordered"])
    third_shopper.place("shirt", 1)
    third_shopper.place("song")
    third_shopper.start()
    hold = StockReservation.objects.get(basket_id=third_shopper.owner.basket_id)
    runner.run(
        lambda: reservation_repairs.release(reservation=hold, expected_events=events_of(third_shopper), reason="why not", actor=TESTER)
    )
    other_shopper.place("shirt", 3)
    numbers["reversed"] = other_shopper.start().session.order_no
    other_shopper.finish(False)
    supply.set_unsold(reports={"shirt": 1}, as_of=None, reason="counted", actor=TESTER)
    other_shopper.finish(True, numbers["reversed"])
    session = CheckoutSession.objects.get(order_no=numbers["reversed"])
    runner.run(
        lambda: checkout_repairs.reverse_order(session=session, expected_events=events_of(other_shopper), reason="sent back", actor=TESTER)
    )
    fourth_shopper = shopper.beside("dora")
    fourth_shopper.place("song")
    flagged = [aborted(fourth_shopper) for _ in range(21)]
    return numbers | {"merged": flagged[0], "open": flagged[20], "before": flagged[19]}


@pytest.mark.django_db
def test_migrated_reversals_releases_and_flags_satisfy_all_invariants(owner: Owner, monkeypatch: pytest.MonkeyPatch) -> None:
    shopper = User(owner)
    with monkeypatch.context() as before:
        before.setattr(attention, "resolve", lambda **_: None)
        numbers = build(shopper, shopper.beside("ben"), shopper.beside("cleo"))
    reversal = Event.objects.get(kind="checkout_reversed")
    data = {"repair": "reverse_order", "reason": "sent back", "orderNo": numbers["reversed"], "returned": reversal.data["returned"]}
    Event.objects.filter(pk=reversal.pk).update(kind="repaired", data=data)
    CheckoutSession.objects.update(reversed_at=None)
    CheckoutItem.objects.update(released_at=None)
    Attention.objects.update(candidates=None)
    assert {finding.invariant.slug for finding in invariant_checker.check_invariants()} == {
        "released_items_are_recorded",
        "orders_reversed_once",
        "flags_end_with_their_cause",
        "flags_match_their_events",
        "open_flags_are_bounded",
    }
    # Earlier versions stored no candidates in events.
    for event in Event.objects.filter(kind="attention_needed"):
        Event.objects.filter(pk=event.pk).update(data={name: event.data[name] for name in ("orderNo", "reason")})
    operation = REVERSALS.Migration.operations[-1]
    with connection.cursor() as cursor:
        for statement in operation.sql:
            cursor.execute(statement)
    assert invariant_checker.check_invariants() == []
    assert CheckoutSession.objects.exclude(reversed_at=None).values_list("order_no", "reversed_at").get() == (
        numbers["reversed"],
        reversal.at,
    )
    assert CheckoutItem.objects.exclude(released_at=None).values_list("product_id", "stocked").get() == ("shirt", -1)
    settled = Attention.objects.exclude(settled_at=None).order_by("pk")
    assert list(settled.values_list("session__order_no", "reason", "settled_by", "merged")) == [
        (numbers["ordered"], "checkout_aborted", "migrate", False),
        (numbers["reversed"], "short", "migrate", False),
        (numbers["merged"], "checkout_aborted", "migrate", True),
    ]
    causes = Event.objects.filter(kind="attention_settled").order_by("pk").values_list("data__cause", flat=True)
    assert list(causes) == ["ordered", "reversed", "merged"]
    candidates = Attention.objects.get(session__order_no=numbers["open"]).candidates
    assert candidates is not None
    assert [each["orderNo"] for each in candidates[:2]] == [numbers["open"], numbers["before"]]
    assert len(candidates) == 5
    for statement in operation.sql:
        with connection.cursor() as cursor:
            cursor.execute(statement)
    assert settled.count() == 3, "a migration that is run again changes nothing"
