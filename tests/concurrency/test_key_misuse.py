"""Holds of a stolen key are released by two operators at once, while its checkouts are being finished."""

from dataclasses import replace

from baskets.domain import runner
from baskets.domain.actors import Actor
from baskets.domain.checkout import sessions
from baskets.domain.support import key_misuse
from baskets.domain.support.key_misuse import RepairBatch
from baskets.models import CheckoutSession, Event
from tests.concurrency.barrier import run_concurrently
from tests.conftest import APP
from tests.domain.scenarios import User, available

OPERATOR = Actor.system("tests")


def release() -> RepairBatch:
    return key_misuse.release_holds(prefix=APP.name, after=0, reason="stolen", actor=OPERATOR)


def reverse() -> RepairBatch:
    since = CheckoutSession.objects.order_by("started_at")[0].started_at
    return key_misuse.reverse_orders(prefix=APP.name, since=since, after=0, reason="stolen", actor=OPERATOR)


def bought(shopper: User, number: int) -> list[User]:
    buyers = [User(replace(shopper.owner, user_id=f"buyer-{i}")) for i in range(number)]
    for buyer in buyers:
        buyer.place("shirt", 1)
        buyer.start()
    return buyers


def test_concurrent_operators_abort_each_checkout_once(shopper: User) -> None:
    bought(shopper, 8)
    outcomes = run_concurrently([release] * 4)
    assert all(isinstance(outcome, RepairBatch) for outcome in outcomes), outcomes
    assert release().found == 0
    assert Event.objects.filter(kind=Event.Kind.CHECKOUT_ABORTED).count() == 8
    assert available("shirt") == (10, 0)


def test_checkout_ordered_during_the_release_stays_ordered(shopper: User) -> None:
    buyers = bought(shopper, 6)
    finish = [lambda buyer=buyer: buyer.finish(True) for buyer in buyers]
    run_concurrently([release, release, *finish])
    states = CheckoutSession.objects.values_list("status", flat=True)
    assert set(states) <= {"ORDERED", "ABORTED", "ACTIVE"}
    release()
    ordered = CheckoutSession.objects.filter(status="ORDERED").count()
    assert not CheckoutSession.objects.active().exists()
    assert available("shirt") == (10 - ordered, 0)


def test_concurrent_operators_reverse_each_order_once(shopper: User) -> None:
    for buyer in bought(shopper, 6):
        runner.run(sessions.finish_session, owner=buyer.owner, ordered=True, order_no=None, actor=APP)
    outcomes = run_concurrently([reverse] * 3)
    assert all(isinstance(outcome, RepairBatch) for outcome in outcomes), outcomes
    reverse()
    assert available("shirt") == (10, 0)
