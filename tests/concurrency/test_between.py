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
from tests.concurrency.barrier import PausedCall, run_concurrently
from tests.concurrency.operations import OPERATIONS
from tests.concurrency.scenarios import STAFF, Scenario, build_scenario, purge_all
from tests.domain.scenarios import available

pytestmark = pytest.mark.django_db(transaction=True)

InterruptedLateOrder = Callable[[Scenario, Callable[[], Any]], None]


@pytest.fixture
def late_order_interrupted(monkeypatch: pytest.MonkeyPatch) -> InterruptedLateOrder:
    """Order what was aborted long ago, and let something happen once that was refused, before it is flagged."""

    def call(scenario: Scenario, happens: Callable[[], Any]) -> None:
        real = runner.run_in_transaction
        steps: list[Any] = []

        def one_by_one(step: Callable[[], Any]) -> Any:
            steps.append(step)
            if len(steps) == 3:  # After the direct order, which does not apply, and the refusal.
                happens()
            return real(step)

        with monkeypatch.context() as between:
            between.setattr(runner, "run_in_transaction", one_by_one)
            with pytest.raises(CheckoutExpired):
                OPERATIONS["order the old"](scenario)

    return call


def test_session_purged_before_its_flag_is_not_flagged(late_order_interrupted: InterruptedLateOrder) -> None:
    scenario = build_scenario("active")
    late_order_interrupted(scenario, purge_all)
    assert not CheckoutSession.objects.filter(pk=scenario.old.pk).exists()
    assert not Attention.objects.exists()
    scenario = build_scenario("gone")
    late_order_interrupted(scenario, purge_all)
    assert not Basket.objects.exists()


def test_session_erased_before_its_flag_is_flagged_without_erased_data(late_order_interrupted: InterruptedLateOrder) -> None:
    scenario = build_scenario("aborted")
    before = Attention.objects.count()
    late_order_interrupted(scenario, lambda: OPERATIONS["staff erases"](scenario))
    erased = Basket.objects.get()
    assert erased.user_id.startswith("erased-")
    assert (
        Attention.objects.filter(basket=erased, session=scenario.old, reason="checkout_expired").count()
        == 1
        == Attention.objects.count() - before
    )
    summarize_outcome = Event.objects.get(basket=erased, number=erased.events)
    assert (summarize_outcome.kind, summarize_outcome.request_id, summarize_outcome.tracking) == ("attention_needed", "", {})


def test_session_ordered_before_its_flag_is_not_flagged(late_order_interrupted: InterruptedLateOrder) -> None:
    """The cause of the flag is gone before the flag is raised."""
    scenario = build_scenario("active")
    late_order_interrupted(scenario, lambda: OPERATIONS["staff orders the old"](scenario))
    assert CheckoutSession.objects.get(pk=scenario.old.pk).status == "ORDERED"
    assert not Attention.objects.open().filter(session=scenario.old).exists()
    assert invariant_checker.check_invariants() == []


def test_returning_erased_user_has_no_flag_of_the_old_session(late_order_interrupted: InterruptedLateOrder) -> None:
    scenario = build_scenario("aborted")

    def erased_and_back() -> None:
        OPERATIONS["staff erases"](scenario)
        scenario.shopper.place("cap", 1)

    late_order_interrupted(scenario, erased_and_back)
    assert not Attention.objects.filter(basket_id=scenario.shopper.owner.basket_id).exists()
    assert scenario.shopper.lists()["cart"] == [("cap", 1)]


def test_concurrent_reversals_return_the_pieces_once() -> None:
    scenario = build_scenario("active")
    scenario.shopper.finish(ordered=True)
    before = available("shirt")
    seen = Basket.objects.get(pk=scenario.shopper.owner.basket_id).events

    def reverse() -> None:
        checkout_repairs.reverse_order(session=scenario.session, expected_events=seen, reason="sent back", actor=STAFF)

    outcomes = run_concurrently([lambda: runner.run(reverse)] * 2)
    assert sorted(type(outcome) for outcome in outcomes if outcome is not None) == [guards.StaleState]
    assert available("shirt") == (before[0] + 3, 0)
    assert CheckoutSession.objects.filter(reversed_at__isnull=False).count() == 1
    assert invariant_checker.check_invariants() == []


def test_hold_again_reserves_pieces_released_during_its_reclaim(monkeypatch: pytest.MonkeyPatch) -> None:
    """Staff get no shortage for pieces that had lapsed and were released at that moment."""
    scenario = build_scenario("failed")
    paused = PausedCall()
    monkeypatch.setattr(counters, "reserve", paused.at(counters.reserve))
    paused.run(lambda: OPERATIONS["staff holds again"](scenario), while_paused=lambda: scenario.third_shopper.finish(False))
    assert scenario.shopper.lists()["checkout"] == [("shirt", 3, 3), ("cap", 1, 1)]
