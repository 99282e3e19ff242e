"""Flags for staff: raised when an order is refused that may be paid, settled once their cause is gone, and bounded."""

from contextlib import suppress

import pytest

from baskets.domain import errors, runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import attention
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import attention_repairs, checkout_repairs, guards
from baskets.models import Attention, Basket, CheckoutSession, Event, Partner
from baskets.models.basket_snapshot import Owner
from tests.conftest import APP
from tests.domain.scenarios import User, available
from tests.factories import TESTER, ProductFactory

STAFF = Actor(kind=ActorKind.STAFF, name="rita")


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user with 2 of a limited shirt (5 unsold) in the cart."""
    ProductFactory(product_id="shirt", unsold=5)
    ProductFactory(product_id="song")
    user = User(owner)
    user.place("shirt", 2)
    return user


def aborted(user: User) -> str:
    order_no = user.start().session.order_no
    user.finish(False)
    return order_no


def refused(user: User, order_no: str | None = None) -> None:
    """Report an order that is refused."""
    with pytest.raises(errors.Refusal):
        user.finish(True, order_no)


def open_flags() -> list[tuple[str, str]]:
    return list(Attention.objects.open().order_by("pk").values_list("session__order_no", "reason"))


def last_events(user: User, number: int) -> list[tuple[str, str, dict[str, object]]]:
    """The last events of a basket, oldest first: kind, actor, data."""
    rows = Event.objects.filter(basket_id=user.owner.basket_id).order_by("-number")[:number]
    return [(event.kind, event.actor, event.data) for event in reversed(rows)]


def seen(user: User) -> int:
    return Basket.objects.get(pk=user.owner.basket_id).events


# --- Settled by the order ---------------------------------------------------------


def test_a_late_order_settles_the_open_flags_of_its_session_only(shopper: User) -> None:
    first = aborted(shopper)
    refused(shopper)
    shopper.place("song")
    refused(shopper)
    second = aborted(shopper)
    refused(shopper)
    assert open_flags() == [(first, "checkout_aborted"), (first, "basket_changed"), (second, "checkout_aborted")]
    shopper.finish(True, first)
    assert open_flags() == [(second, "checkout_aborted")]
    settled = Attention.objects.filter(session__order_no=first)
    at = CheckoutSession.objects.get(order_no=first).finished_at
    assert (
        list(settled.values_list("settled_at", "settled_by", "note", "merged")) == [(at, APP.name, "The checkout was ordered.", False)] * 2
    )
    (ordered, _, _), recorded = last_events(shopper, 2)
    assert ordered == "checkout_ordered_late"
    data = {"orderNo": first, "reasons": ["basket_changed", "checkout_aborted"], "cause": "ordered"}
    assert recorded == ("attention_settled", APP.name, data)
    assert list(CheckoutSession.objects.needing_attention().values_list("order_no", flat=True)) == [second]
    assert invariant_checker.check_invariants() == []


def test_an_order_without_open_flags_tells_of_none(shopper: User) -> None:
    shopper.finish(True, aborted(shopper))
    assert last_events(shopper, 1)[0][0] == "checkout_ordered_late"


def test_a_late_order_by_staff_settles_in_their_name(shopper: User) -> None:
    order_no = aborted(shopper)
    refused(shopper)
    session, events = CheckoutSession.objects.get(), seen(shopper)
    runner.run(checkout_repairs.order_late, session=session, accept_short=False, expected_events=events, reason="was paid", actor=STAFF)
    assert open_flags() == []
    assert Attention.objects.get().settled_by == "rita"
    kinds = [(kind, actor) for kind, actor, _ in last_events(shopper, 3)]
    assert kinds == [("checkout_ordered_late", "rita"), ("attention_settled", "rita"), ("repaired", "rita")]
    assert last_events(shopper, 2)[0][2] == {"orderNo": order_no, "reasons": ["checkout_aborted"], "cause": "ordered"}


def test_a_short_order_settles_its_refusals_and_stays_flagged_as_short(shopper: User) -> None:
    Partner.objects.update(late_orders="accept")
    order_no = aborted(shopper)
    refused(shopper)
    supply.set_unsold(reports={"shirt": 1}, as_of=None, reason="counted", actor=TESTER)
    shopper.finish(True, order_no)
    assert open_flags() == [(order_no, "short")]
    assert [kind for kind, _, _ in last_events(shopper, 3)] == ["checkout_ordered_late", "attention_settled", "attention_needed"]
    assert last_events(shopper, 1)[0][2] == {"orderNo": order_no, "reason": "short"}
    assert Attention.objects.get(reason="short").candidates is None
    assert invariant_checker.check_invariants() == []


def test_a_report_for_an_order_that_is_no_longer_the_last_change_is_still_flagged(shopper: User) -> None:
    """It may speak of another payment: the order came before it."""
    order_no = shopper.start().session.order_no
    shopper.finish(True)
    shopper.place("song")
    refused(shopper)
    assert open_flags() == [(order_no, "basket_changed")]
    assert invariant_checker.check_invariants() == []


# --- Candidates -------------------------------------------------------------------


def test_a_report_without_a_number_names_the_sessions_it_may_mean(shopper: User) -> None:
    paid, last = aborted(shopper), aborted(shopper)
    shopper.place("song")
    refused(shopper)
    sessions = CheckoutSession.objects.in_bulk(field_name="order_no")
    named = [
        {"orderNo": number, "status": "ABORTED", "finishedAt": f"{sessions[number].finished_at:%Y-%m-%dT%H:%M:%SZ}"}
        for number in (last, paid)
    ]
    flag = Attention.objects.get()
    assert (flag.session.order_no, flag.reason, flag.candidates) == (last, "basket_changed", named)
    data = {"orderNo": last, "reason": "basket_changed", "orderNoReported": False, "candidates": named}
    assert last_events(shopper, 1)[0][2] == data


def test_a_report_with_a_number_has_no_candidates(shopper: User) -> None:
    order_no = aborted(shopper)
    shopper.wait(days=2)
    refused(shopper, order_no)
    assert Attention.objects.get().candidates is None
    assert last_events(shopper, 1)[0][2] == {"orderNo": order_no, "reason": "checkout_expired", "orderNoReported": True}


@pytest.mark.parametrize("named", [True, False])
def test_late_orders_without_stock_say_whether_a_number_was_reported(shopper: User, *, named: bool) -> None:
    order_no = shopper.start().session.order_no
    shopper.wait(minutes=31)
    other = shopper.beside("ben")
    other.place("shirt", 5)
    other.start()
    refused(shopper, order_no if named else None)
    flag = Attention.objects.get()
    candidates = flag.candidates and [each["orderNo"] for each in flag.candidates]
    assert (flag.reason, candidates) == ("out_of_stock", None if named else [order_no])


def test_candidates_are_the_five_that_ended_last(shopper: User) -> None:
    numbers = [aborted(shopper) for _ in range(7)]
    shopper.finish(True, numbers[0])
    shopper.place("song")
    shopper.start()
    shopper.finish(False)
    active = shopper.start().session.order_no
    shopper.finish(False, active)
    refused(shopper)
    flag = Attention.objects.get()
    assert flag.candidates is not None
    ended = list(CheckoutSession.objects.latest_ended_first().values_list("order_no", "status")[:5])
    assert [(each["orderNo"], each["status"]) for each in flag.candidates] == ended
    assert ended[2] == (numbers[0], "ORDERED")


# --- Bounds -----------------------------------------------------------------------


def test_a_basket_keeps_a_bounded_number_of_open_flags(shopper: User) -> None:
    """Of start, abort and report, over and over; the oldest are settled as merged, and none is lost."""
    numbers = []
    for _ in range(attention.MAX_OPEN + 3):
        numbers.append(aborted(shopper))
        refused(shopper)
    assert attention.MAX_OPEN == 20
    assert open_flags() == [(number, "checkout_aborted") for number in numbers[3:]]
    merged = Attention.objects.filter(merged=True).order_by("pk")
    assert list(merged.values_list("session__order_no", "settled_by")) == [(number, "attention") for number in numbers[:3]]
    assert [event[::2] for event in last_events(shopper, 2)] == [
        ("attention_needed", last_events(shopper, 2)[0][2]),
        ("attention_settled", {"orderNo": numbers[2], "reasons": ["checkout_aborted"], "cause": "merged"}),
    ]
    assert invariant_checker.check_invariants() == []
    refused(shopper)
    assert len(open_flags()) == attention.MAX_OPEN


def test_short_orders_are_neither_counted_nor_merged(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "MAX_OPEN", 1)
    Partner.objects.update(late_orders="accept")
    short = aborted(shopper)
    supply.set_unsold(reports={"shirt": 0}, as_of=None, reason="counted", actor=TESTER)
    shopper.finish(True, short)
    supply.set_unsold(reports={"shirt": 5}, as_of=None, reason="counted", actor=TESTER)
    shopper.place("shirt", 1)
    flagged = [aborted(shopper)]
    refused(shopper)
    flagged.append(aborted(shopper))
    refused(shopper)
    assert open_flags() == [(short, "short"), (flagged[1], "checkout_aborted")]


def test_all_flags_of_a_basket_are_settled_at_once(shopper: User) -> None:
    numbers = []
    for _ in range(3):
        numbers.append(aborted(shopper))
        refused(shopper)
    other_shopper = shopper.beside("ben")
    other_shopper.place("song")
    others = aborted(other_shopper)
    refused(other_shopper)
    basket = Basket.objects.get(pk=shopper.owner.basket_id)

    def settle_all() -> None:
        attention_repairs.resolve_all(basket=basket, expected_events=seen(shopper), reason="refunded", actor=STAFF)

    runner.run(settle_all)
    assert open_flags() == [(others, "checkout_aborted")]
    recorded = last_events(shopper, 4)
    assert [(kind, data["orderNo"]) for kind, _, data in recorded[:3]] == [("attention_settled", number) for number in numbers]
    assert recorded[3] == ("repaired", "rita", {"repair": "settle_all", "reason": "refunded"})
    assert set(Attention.objects.filter(basket=basket).values_list("settled_by", "note", "merged")) == {("rita", "refunded", False)}
    assert invariant_checker.check_invariants() == []
    with pytest.raises(guards.RepairNotApplicable, match="no open flag"):
        runner.run(settle_all)


# --- Reversals --------------------------------------------------------------------


def reverse(user: User, order_no: str) -> None:
    session = CheckoutSession.objects.get(order_no=order_no)
    runner.run(lambda: checkout_repairs.reverse_order(session=session, expected_events=seen(user), reason="sent back", actor=STAFF))


def test_a_reversed_order_says_so_once_and_for_good(shopper: User) -> None:
    shopper.place("song", 3)
    order_no = shopper.start().session.order_no
    shopper.finish(True)
    revision = Basket.objects.get().revision
    reverse(shopper, order_no)
    session = CheckoutSession.objects.get()
    recorded = Event.objects.get(kind="checkout_reversed")
    assert (session.status, session.reversed_at) == ("ORDERED", recorded.at)
    items = [{"productId": "shirt", "count": 2}, {"productId": "song", "count": 3}]
    assert [event[::2] for event in last_events(shopper, 2)] == [
        ("checkout_reversed", {"orderNo": order_no, "items": items, "returned": {"shirt": 2}}),
        ("repaired", {"repair": "reverse_order", "reason": "sent back", "orderNo": order_no}),
    ]
    assert available("shirt") == (5, 0)
    with pytest.raises(guards.RepairNotApplicable, match="already reversed"):
        reverse(shopper, order_no)
    assert shopper.finish(True, order_no).revision == revision
    with pytest.raises(errors.CheckoutAlreadyOrdered):
        shopper.finish(False, order_no)
    assert available("shirt") == (5, 0)
    assert invariant_checker.check_invariants() == []


@pytest.mark.parametrize(("there", "returned"), [(0, {}), (1, {"shirt": 1})])
def test_reversing_a_short_order_settles_its_flag(shopper: User, there: int, returned: dict[str, int]) -> None:
    Partner.objects.update(late_orders="accept")
    order_no = aborted(shopper)
    supply.set_unsold(reports={"shirt": there}, as_of=None, reason="counted", actor=TESTER)
    shopper.finish(True, order_no)
    assert open_flags() == [(order_no, "short")]
    reverse(shopper, order_no)
    assert open_flags() == []
    reversed_, settled, repaired = last_events(shopper, 3)
    assert reversed_[2] == {"orderNo": order_no, "items": [{"productId": "shirt", "count": 2}], "returned": returned}
    assert settled == ("attention_settled", "rita", {"orderNo": order_no, "reasons": ["short"], "cause": "reversed"})
    assert repaired[0] == "repaired"
    assert Attention.objects.get().note == "The order was reversed."
    assert available("shirt") == (there, 0)
    assert invariant_checker.check_invariants() == []


def test_a_reversal_leaves_a_flag_that_speaks_of_another_payment(shopper: User) -> None:
    order_no = shopper.start().session.order_no
    shopper.finish(True)
    shopper.place("song")
    with suppress(errors.Refusal):
        shopper.finish(True)
    reverse(shopper, order_no)
    assert open_flags() == [(order_no, "basket_changed")]
    assert invariant_checker.check_invariants() == []
