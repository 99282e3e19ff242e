"""What comes between the two transactions of one call: after an order was refused, and before its flag for staff is written."""

from collections.abc import Callable
from typing import Any

import pytest

from baskets.domain import runner
from baskets.domain.errors import CheckoutExpired
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import counters
from baskets.domain.support import checkout_repairs, guards
from baskets.models import Attention, Basket, CheckoutSession, Event
from tests.concurrency.barrier import Frozen, together
from tests.concurrency.operations import OPERATIONS
from tests.concurrency.scenarios import STAFF, World, built, purged
from tests.domain.scenarios import available

pytestmark = pytest.mark.django_db(transaction=True)

Late = Callable[[World, Callable[[], Any]], None]


@pytest.fixture
def too_late(monkeypatch: pytest.MonkeyPatch) -> Late:
    """Order what was aborted long ago, and let something happen once that was refused, before it is flagged."""

    def call(world: World, happens: Callable[[], Any]) -> None:
        real = runner.in_transaction
        steps: list[Any] = []

        def one_by_one(step: Callable[[], Any]) -> Any:
            steps.append(step)
            if len(steps) == 2:
                happens()
            return real(step)

        with monkeypatch.context() as between:
            between.setattr(runner, "in_transaction", one_by_one)
            with pytest.raises(CheckoutExpired):
                OPERATIONS["order the old"](world)

    return call


def test_a_session_that_is_purged_meanwhile_is_not_flagged(too_late: Late) -> None:
    world = built("active")
    too_late(world, purged)
    assert not CheckoutSession.objects.filter(pk=world.old.pk).exists()
    assert not Attention.objects.exists()
    world = built("gone")
    too_late(world, purged)
    assert not Basket.objects.exists()


def test_a_session_whose_user_is_erased_meanwhile_is_flagged_without_what_was_erased(too_late: Late) -> None:
    world = built("aborted")
    before = Attention.objects.count()
    too_late(world, lambda: OPERATIONS["staff erases"](world))
    erased = Basket.objects.get()
    assert erased.user_id.startswith("erased-")
    assert (
        Attention.objects.filter(basket=erased, session=world.old, reason="checkout_expired").count()
        == 1
        == Attention.objects.count() - before
    )
    told = Event.objects.get(basket=erased, number=erased.events)
    assert (told.kind, told.request_id, told.tracking) == ("attention_needed", "", {})


def test_a_session_that_is_ordered_meanwhile_is_not_flagged(too_late: Late) -> None:
    """The cause of the flag is gone before the flag is raised."""
    world = built("active")
    too_late(world, lambda: OPERATIONS["staff orders the old"](world))
    assert CheckoutSession.objects.get(pk=world.old.pk).status == "ORDERED"
    assert not Attention.objects.open().filter(session=world.old).exists()
    assert invariant_checker.check_invariants() == []


def test_a_user_who_is_erased_and_comes_back_meanwhile_has_no_flag_of_the_old_life(too_late: Late) -> None:
    world = built("aborted")

    def erased_and_back() -> None:
        OPERATIONS["staff erases"](world)
        world.shopper.place("cap", 1)

    too_late(world, erased_and_back)
    assert not Attention.objects.filter(basket_id=world.shopper.owner.basket_id).exists()
    assert world.shopper.lists()["cart"] == [("cap", 1)]


def test_two_reversals_of_one_order_bring_its_pieces_back_once() -> None:
    world = built("active")
    world.shopper.finish(ordered=True)
    before = available("shirt")
    seen = Basket.objects.get(pk=world.shopper.owner.basket_id).events

    def reverse() -> None:
        checkout_repairs.reverse_order(session=world.session, expected_events=seen, reason="sent back", actor=STAFF)

    outcomes = together([lambda: runner.run(reverse)] * 2)
    assert sorted(type(outcome) for outcome in outcomes if outcome is not None) == [guards.StaleState]
    assert available("shirt") == (before[0] + 3, 0)
    assert CheckoutSession.objects.filter(reversed_at__isnull=False).count() == 1
    assert invariant_checker.check_invariants() == []


def test_pieces_that_come_free_while_they_are_asked_for_are_held_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staff are not told that there is too little where it had lapsed and was given back in that instant."""
    world = built("failed")
    frozen = Frozen()
    monkeypatch.setattr(counters, "reserve", frozen.at(counters.reserve))
    frozen.run(lambda: OPERATIONS["staff holds again"](world), while_frozen=lambda: world.third_shopper.finish(False))
    assert world.shopper.lists()["checkout"] == [("shirt", 3, 3), ("cap", 1, 1)]
