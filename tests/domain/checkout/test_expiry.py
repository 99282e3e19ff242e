"""What the clock does: lapsed sessions and old baskets, swept or on demand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from baskets.domain import errors
from baskets.domain.checkout import expiry
from baskets.domain.stock import counters
from baskets.models import CheckoutSession, Event, Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User, available, reservations
from tests.factories import TESTER, ProductFactory


@pytest.fixture
def anna(owner: Owner) -> User:
    """A user who holds 2 of the 5 shirts there are."""
    ProductFactory(product_id="shirt", unsold=5)
    user = User(owner)
    user.place("shirt", 2)
    user.start()
    return user


def test_the_sweep_expires_what_has_lapsed_and_nothing_else(anna: User) -> None:
    """Expiry is an abort by the clock; a second sweep finds nothing."""
    ben = anna.beside("ben")
    ben.place("shirt", 1)
    ben.start()
    anna.wait(minutes=31)
    assert (expiry.sweep_sessions(dry_run=True).expired, available("shirt")) == (1, (2, 0))
    assert expiry.sweep_sessions().expired == 1
    assert expiry.sweep_sessions().found == 0
    assert anna.lists() == {"cart": [("shirt", 2)], "saved": [], "checkout": []}
    assert ben.lists()["checkout"] == [("shirt", 1, 1)]
    assert available("shirt") == (4, 0)
    assert Event.objects.filter(kind="checkout_expired").values_list("actor_kind", "actor").get() == (
        "system",
        "expire_baskets",
    )


def test_the_grace_period_counts_from_the_end_of_the_hold(anna: User) -> None:
    """Not from the sweep, however late that comes."""
    order_no = CheckoutSession.objects.get().order_no
    anna.wait(hours=24, minutes=31)
    expiry.sweep_sessions()
    with pytest.raises(errors.CheckoutExpired):
        anna.finish(True)
    assert reservations(order_no) == [("shirt", "RELEASED", 2)]


def test_an_expired_session_is_ordered_late_without_its_name(anna: User) -> None:
    """While the basket has not changed since."""
    order_no = CheckoutSession.objects.get().order_no
    anna.wait(minutes=31)
    expiry.sweep_sessions()
    revision = anna.finish(False).revision
    assert anna.finish(True).revision == revision + 1
    assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 2)]
    assert anna.finish(True).revision == revision + 1
    with pytest.raises(errors.CheckoutAlreadyOrdered):
        anna.finish(False)


def test_a_start_expires_its_own_lapsed_session_first(anna: User) -> None:
    """Nobody is blocked by their own hold."""
    anna.wait(minutes=31)
    anna.start()
    assert sorted(CheckoutSession.objects.values_list("status", flat=True)) == ["ACTIVE", "EXPIRED"]
    assert available("shirt") == (3, 0)


def test_a_start_reclaims_from_lapsed_sessions_oldest_first_and_no_more_than_needed(anna: User) -> None:
    """Each is expired whole; one that is not needed keeps its hold."""
    ben, cleo, dora = anna.beside("ben"), anna.beside("cleo"), anna.beside("dora")
    for user, minutes in ((ben, 33), (cleo, 32)):
        user.place("shirt", 1)
        user.start()
        user.wait(minutes=minutes)
    anna.wait(minutes=31)
    assert available("shirt") == (1, 0)
    dora.place("shirt", 2)
    dora.start()
    assert dora.lists()["checkout"] == [("shirt", 2, 2)]
    assert (ben.lists()["checkout"], cleo.lists()["checkout"]) == ([], [("shirt", 1, 1)])
    assert anna.lists()["checkout"] == [("shirt", 2, 2)]
    assert available("shirt") == (0, 0)


def test_a_late_order_reclaims_before_it_is_refused_or_short(anna: User) -> None:
    """A late sweep hides no stock from those who have paid."""
    Partner.objects.update(late_orders="accept")
    order_no = CheckoutSession.objects.get().order_no
    anna.finish(False)
    ben = anna.beside("ben")
    ben.place("shirt", 5)
    ben.start()
    ben.wait(minutes=31)
    anna.finish(True, order_no)
    assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 2)]
    assert ben.lists()["cart"] == [("shirt", 5)]


def test_old_baskets_are_hidden_but_never_during_a_checkout(anna: User) -> None:
    """A held reservation is a right, even beyond the life of its basket."""
    ben = anna.beside("ben")
    ben.place("shirt", 1)
    ben.wait(days=31)
    anna.wait(days=31)
    assert ben.basket() is None
    assert anna.basket() is not None
    assert expiry.sweep_baskets().expired == 1
    assert expiry.sweep_baskets().found == 0
    assert ben.lists() == {"cart": [], "saved": [], "checkout": []}
    anna.finish(True)
    assert available("shirt") == (3, 0)


def test_a_feed_with_less_than_is_held_leaves_holds_and_records_shortfall(anna: User) -> None:
    """Later releases pay it off first."""
    counters.set_unsold(reports={"shirt": 1}, as_of=None, reason="feed", actor=TESTER)
    assert available("shirt") == (0, 1)
    anna.finish(False)
    assert available("shirt") == (1, 0)


def test_a_hold_ends_by_what_it_held_whatever_the_setting_became(anna: User) -> None:
    """Limited becomes unlimited and back during a checkout."""
    counters.set_unsold(reports={"shirt": None}, as_of=None, reason="feed", actor=TESTER)
    ben = anna.beside("ben")
    ben.place("shirt", 100)
    ben.start()
    assert ben.lists()["checkout"] == [("shirt", 100, None)]
    counters.set_unsold(reports={"shirt": 7}, as_of=None, reason="feed", actor=TESTER)
    assert available("shirt") == (5, 0)
    ben.finish(True)
    anna.finish(False)
    assert available("shirt") == (7, 0)


@pytest.mark.parametrize("wrong", [datetime(2001, 1, 1, tzinfo=UTC), datetime(2038, 1, 20, tzinfo=UTC)])
def test_a_wrong_clock_of_the_application_changes_nothing(anna: User, wrong: datetime) -> None:
    """Nothing expires early, nothing revives, and no time goes back: only the database's clock is asked."""
    ben = anna.beside("ben")
    ben.place("shirt", 1)
    ben.start()
    ben.wait(minutes=31)
    before = anna.basket()
    assert before is not None
    with time_machine.travel(wrong, tick=True):
        assert expiry.sweep_sessions().expired == 1
        assert expiry.sweep_baskets().expired == 0
        after = anna.finish(ordered=True)
    assert before.last_changed_at <= after.last_changed_at <= before.last_changed_at + timedelta(minutes=1)
    assert ben.lists()["cart"] == [("shirt", 1)]


# --- Decided under the lock, not before ---------------------------------------------


def test_a_live_session_is_not_expired_whoever_asks(anna: User) -> None:
    """What was seen to have lapsed may have ended meanwhile, and another session may have begun."""
    expiry.expire_session(basket_id=anna.owner.basket_id)
    assert anna.lists()["checkout"] == [("shirt", 2, 2)]
    assert available("shirt") == (3, 0)


def meanwhile(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen between the look for candidates and the transaction that takes them."""
    real = expiry.in_transaction

    def late(step: Callable[[], Any]) -> Any:
        monkeypatch.setattr(expiry, "in_transaction", real)
        happens()
        return real(step)

    monkeypatch.setattr(expiry, "in_transaction", late)


def test_the_sweep_looks_again_at_a_session_it_has_found(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    anna.wait(minutes=31)

    def begun_anew() -> None:
        anna.finish(ordered=False)
        anna.start()

    meanwhile(monkeypatch, begun_anew)
    assert (expiry.sweep_sessions().found, expiry.sweep_sessions().found) == (1, 0)
    assert anna.lists()["checkout"] == [("shirt", 2, 2)]
    assert not Event.objects.filter(kind="checkout_expired").exists()


def test_the_sweep_looks_again_at_a_basket_it_has_found(anna: User, monkeypatch: pytest.MonkeyPatch) -> None:
    anna.finish(ordered=True)
    anna.wait(days=31)
    meanwhile(monkeypatch, lambda: anna.place("shirt", 1))
    assert expiry.sweep_baskets().expired == 0
    assert anna.lists()["cart"] == [("shirt", 1)]
