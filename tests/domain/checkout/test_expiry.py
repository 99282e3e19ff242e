"""What the clock does: lapsed sessions and old baskets, swept or on demand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.db.models.functions import Now

from baskets.domain import errors
from baskets.domain.checkout import expiry
from baskets.domain.stock import supply
from baskets.models import Basket, CheckoutSession, Event, Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User, available, reservations
from tests.factories import TESTER, ProductFactory


@pytest.fixture
def shopper(owner: Owner) -> User:
    """A user who holds 2 of the 5 shirts there are."""
    ProductFactory(product_id="shirt", unsold=5)
    user = User(owner)
    user.place("shirt", 2)
    user.start()
    return user


def test_the_sweep_expires_what_has_lapsed_and_nothing_else(shopper: User) -> None:
    """Expiry is an abort by the clock; a second sweep finds nothing."""
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 1)
    other_shopper.start()
    shopper.wait(minutes=31)
    assert (expiry.sweep_sessions(dry_run=True).expired, available("shirt")) == (1, (2, 0))
    assert expiry.sweep_sessions().expired == 1
    assert expiry.sweep_sessions().found == 0
    assert shopper.lists() == {"cart": [("shirt", 2)], "saved": [], "checkout": []}
    assert other_shopper.lists()["checkout"] == [("shirt", 1, 1)]
    assert available("shirt") == (4, 0)
    assert Event.objects.filter(kind="checkout_expired").values_list("actor_kind", "actor").get() == (
        "system",
        "expire_baskets",
    )


def test_the_grace_period_counts_from_the_end_of_the_hold(shopper: User) -> None:
    """Not from the sweep, however late that comes."""
    order_no = CheckoutSession.objects.get().order_no
    shopper.wait(hours=24, minutes=31)
    expiry.sweep_sessions()
    with pytest.raises(errors.CheckoutExpired):
        shopper.finish(True)
    assert reservations(order_no) == [("shirt", "RELEASED", 2)]


def test_an_expired_session_is_ordered_late_without_its_name(shopper: User) -> None:
    """While the basket has not changed since."""
    order_no = CheckoutSession.objects.get().order_no
    shopper.wait(minutes=31)
    expiry.sweep_sessions()
    revision = shopper.finish(False).revision
    assert shopper.finish(True).revision == revision + 1
    assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 2)]
    assert shopper.finish(True).revision == revision + 1
    with pytest.raises(errors.CheckoutAlreadyOrdered):
        shopper.finish(False)


def test_a_start_expires_its_own_lapsed_session_first(shopper: User) -> None:
    """A user's own hold does not block them."""
    shopper.wait(minutes=31)
    shopper.start()
    assert sorted(CheckoutSession.objects.values_list("status", flat=True)) == ["ACTIVE", "EXPIRED"]
    assert available("shirt") == (3, 0)


def test_a_start_reclaims_from_lapsed_sessions_oldest_first_and_no_more_than_needed(shopper: User) -> None:
    """Each is expired whole; one that is not needed keeps its hold."""
    other_shopper, third_shopper, fourth_shopper = shopper.beside("ben"), shopper.beside("cleo"), shopper.beside("dora")
    for user, minutes in ((other_shopper, 33), (third_shopper, 32)):
        user.place("shirt", 1)
        user.start()
        user.wait(minutes=minutes)
    shopper.wait(minutes=31)
    assert available("shirt") == (1, 0)
    fourth_shopper.place("shirt", 2)
    fourth_shopper.start()
    assert fourth_shopper.lists()["checkout"] == [("shirt", 2, 2)]
    assert (other_shopper.lists()["checkout"], third_shopper.lists()["checkout"]) == ([], [("shirt", 1, 1)])
    assert shopper.lists()["checkout"] == [("shirt", 2, 2)]
    assert available("shirt") == (0, 0)


def test_a_late_order_reclaims_before_it_is_refused_or_short(shopper: User) -> None:
    """A late sweep hides no stock from those who have paid."""
    Partner.objects.update(late_orders="accept")
    order_no = CheckoutSession.objects.get().order_no
    shopper.finish(False)
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 5)
    other_shopper.start()
    other_shopper.wait(minutes=31)
    shopper.finish(True, order_no)
    assert reservations(order_no) == [("shirt", "RELEASED", 2), ("shirt", "SOLD", 2)]
    assert other_shopper.lists()["cart"] == [("shirt", 5)]


def test_old_baskets_are_hidden_but_never_during_a_checkout(shopper: User) -> None:
    """A held reservation is a right, even beyond the life of its basket."""
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 1)
    other_shopper.wait(days=31)
    shopper.wait(days=31)
    assert other_shopper.basket() is None
    assert shopper.basket() is not None
    assert expiry.sweep_baskets().expired == 1
    assert expiry.sweep_baskets().found == 0
    assert other_shopper.lists() == {"cart": [], "saved": [], "checkout": []}
    shopper.finish(True)
    assert available("shirt") == (3, 0)


def test_a_feed_with_less_than_is_held_leaves_holds_and_records_shortfall(shopper: User) -> None:
    """Later releases pay it off first."""
    supply.set_unsold(reports={"shirt": 1}, as_of=None, reason="feed", actor=TESTER)
    assert available("shirt") == (0, 1)
    shopper.finish(False)
    assert available("shirt") == (1, 0)


def test_a_hold_ends_by_what_it_held_whatever_the_setting_became(shopper: User) -> None:
    """Limited becomes unlimited and back during a checkout."""
    supply.set_unsold(reports={"shirt": None}, as_of=None, reason="feed", actor=TESTER)
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 100)
    other_shopper.start()
    assert other_shopper.lists()["checkout"] == [("shirt", 100, None)]
    supply.set_unsold(reports={"shirt": 7}, as_of=None, reason="feed", actor=TESTER)
    assert available("shirt") == (5, 0)
    other_shopper.finish(True)
    shopper.finish(False)
    assert available("shirt") == (7, 0)


@pytest.mark.parametrize("wrong", [datetime(2001, 1, 1, tzinfo=UTC), datetime(2038, 1, 20, tzinfo=UTC)])
def test_a_wrong_clock_of_the_application_changes_nothing(shopper: User, wrong: datetime) -> None:
    """Nothing expires early, nothing revives, and no time goes back: only the database's clock counts."""
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 1)
    other_shopper.start()
    other_shopper.wait(minutes=31)
    before = shopper.basket()
    assert before is not None
    with time_machine.travel(wrong, tick=True):
        assert expiry.sweep_sessions().expired == 1
        assert expiry.sweep_baskets().expired == 0
        after = shopper.finish(ordered=True)
    assert before.last_changed_at <= after.last_changed_at <= before.last_changed_at + timedelta(minutes=1)
    assert other_shopper.lists()["cart"] == [("shirt", 1)]


# --- Decided under the lock, not before ---------------------------------------------


def test_a_live_session_is_not_expired(shopper: User) -> None:
    """A session that had lapsed may have ended since, and another session may have begun."""
    expiry.expire_session(basket_id=shopper.owner.basket_id)
    assert shopper.lists()["checkout"] == [("shirt", 2, 2)]
    assert available("shirt") == (3, 0)


@pytest.mark.parametrize("same_moment", [False, True])
def test_a_sweep_sees_each_session_once_the_longest_lapsed_first(shopper: User, monkeypatch: pytest.MonkeyPatch, same_moment: bool) -> None:
    users = [shopper, *(shopper.beside(name) for name in ("ben", "cleo"))]
    for user in users[1:]:
        user.place("shirt", 1)
        user.start()
    for user in users:
        user.wait(minutes=31)
    if same_moment:
        latest = CheckoutSession.objects.latest("expires_at").expires_at
        CheckoutSession.objects.update(expires_at=latest)
    in_order = [f"{{{basket}}}" for (basket,) in CheckoutSession.objects.order_by("expires_at", "pk").values_list("basket_id")]
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    cursor, seen = expiry.SweepCursor(), list[str]()
    # Nothing changes, as if all baskets were locked: what was seen is not seen again.
    while not cursor.ended:
        seen.append(cursor.take(expiry.LAPSED_SESSIONS).baskets)
    assert seen == [*in_order, "{}"]


def test_a_sweep_sees_each_basket_of_one_moment_once(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the order of their keys; a basket in checkout or closed is not among them."""
    for name in ("ben", "cleo", "dora", "eve"):
        shopper.beside(name).place("shirt", 1)
    shopper.beside("eve").delete()
    Basket.objects.update(expires_at=Now())
    due = Basket.objects.filter(hidden_at=None).exclude(pk=shopper.owner.basket_id).order_by("pk").values_list("pk", flat=True)
    monkeypatch.setattr(expiry, "BATCH_SIZE", 1)
    cursor, seen = expiry.SweepCursor(), list[str]()
    while not cursor.ended:
        seen.append(cursor.take(expiry.EXPIRED_BASKETS).baskets)
    assert seen == [*(f"{{{basket}}}" for basket in due), "{}"]
    assert len(seen) == 4


@pytest.mark.django_db
def test_index_has_the_order_of_each_list_of_what_expires() -> None:
    """Of many rows of one moment, a page reads only its own: nothing is sorted."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("SET LOCAL enable_sort = off")
        plans = [rows[:100].explain() for rows in (CheckoutSession.objects.lapsed(), Basket.objects.open().order_by("-expires_at", "-pk"))]
        for search in (expiry.LAPSED_SESSIONS, expiry.EXPIRED_BASKETS):
            values: dict[str, Any] = {"active": "ACTIVE", "expires_at": "-infinity", "pk": search.min_pk, "limit": 100}
            cursor.execute("EXPLAIN " + search.statement.sql, values)
            # The rest of the plan picks the last row of a batch.
            plans.append("\n".join(line for (line,) in cursor.fetchall()).partition("Limit")[2].partition("InitPlan")[0])
    for plan in plans:
        assert "Sort" not in plan, plan
        assert "active_sessions_to_expire" in plan or "shown_baskets_by_expiry_and_id" in plan


def test_a_sweep_ends_with_the_first_batch_that_is_not_full(shopper: User) -> None:
    """What lapses while it runs is for the next sweep, so a sweep ends however many checkouts lapse."""
    shopper.wait(minutes=31)
    cursor = expiry.SweepCursor()
    assert expiry.sweep_sessions(cursor=cursor).expired == 1
    assert cursor.ended
    shopper.start()
    shopper.wait(minutes=31)
    assert expiry.sweep_sessions(cursor=cursor).found == 0


def interleave(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Let something happen between the look for candidates and the transaction that takes them."""
    real = expiry.run_in_transaction

    def late(step: Callable[[], Any]) -> Any:
        monkeypatch.setattr(expiry, "run_in_transaction", real)
        happens()
        return real(step)

    monkeypatch.setattr(expiry, "run_in_transaction", late)


def test_the_sweep_looks_again_at_a_session_it_has_found(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    shopper.wait(minutes=31)

    def restarted() -> None:
        shopper.finish(ordered=False)
        shopper.start()

    interleave(monkeypatch, restarted)
    assert (expiry.sweep_sessions().found, expiry.sweep_sessions().found) == (1, 0)
    assert shopper.lists()["checkout"] == [("shirt", 2, 2)]
    assert not Event.objects.filter(kind="checkout_expired").exists()


def test_the_sweep_looks_again_at_a_basket_it_has_found(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    shopper.finish(ordered=True)
    shopper.wait(days=31)
    interleave(monkeypatch, lambda: shopper.place("shirt", 1))
    assert expiry.sweep_baskets().expired == 0
    assert shopper.lists()["cart"] == [("shirt", 1)]
