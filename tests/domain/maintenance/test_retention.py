"""Old history goes, open history stays, and every rule holds at each step of it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db.models import F, Sum

from baskets.domain import idempotency
from baskets.domain.checkout import expiry
from baskets.domain.errors import OrderNotFound
from baskets.domain.events import feed
from baskets.domain.maintenance import invariant_checker, retention
from baskets.domain.stock import supply
from baskets.models import Attention, Basket, CheckoutSession, Event, FeedPosition, IdempotencyRecord, Stock, StockAdjustment
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.concurrency.barrier import run_concurrently
from tests.domain.maintenance.test_invariant_checker import build
from tests.domain.scenarios import User, available
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.second_client import holding_basket
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db(transaction=True)
YEAR = timedelta(days=365)


def purged(**options: Any) -> dict[str, int]:
    """Purge to the end, as the command does."""
    feed.assign_positions()
    done, after = {"sessions": 0, "events": 0, "baskets": 0, "left": 0}, None
    while (batch := retention.purge_baskets(older_than=YEAR, after=after, **options)).last is not None:
        after = batch.last
        done = {name: count + getattr(batch, name) for name, count in done.items()}
    return done


@pytest.fixture
def shopper() -> User:
    """A user; 10 shirts are there."""
    ProductFactory(product_id="shirt", unsold=10)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


def order(user: User, pieces: int) -> str:
    user.place("shirt", pieces)
    order_no = user.start().session.order_no
    user.finish(ordered=True)
    return order_no


def expire(user: User) -> None:
    user.wait(days=31)
    expiry.sweep_baskets()


def test_a_basket_that_ended_long_ago_goes_with_its_orders_and_the_account_adds_up(shopper: User) -> None:
    order(shopper, 3)
    expire(shopper)
    age_all_rows(timedelta(days=364))
    assert purged() == {"sessions": 0, "events": 0, "baskets": 0, "left": 0}
    age_all_rows(timedelta(days=2))
    assert purged() == {"sessions": 1, "events": 4, "baskets": 1, "left": 0}
    assert [model.objects.count() for model in (Basket, CheckoutSession, Event, FeedPosition)] == [0, 0, 0, 0]
    assert available("shirt") == (7, 0)
    assert StockAdjustment.objects.aggregate(supply=Sum("delta")) == {"supply": 7}
    assert invariant_checker.check() == []
    # The user returns, with a new timeline.
    order(shopper, 1)
    assert feed.assign_positions() == 3
    assert invariant_checker.check() == []


def test_a_world_of_every_state_keeps_every_rule_and_what_is_open() -> None:
    build()
    age_all_rows(timedelta(days=800))
    before = dict(Stock.objects.values_list("pk", "available"))
    done = purged()
    assert done["sessions"] > 0
    assert invariant_checker.check() == []
    assert dict(Stock.objects.values_list("pk", "available")) == before
    assert CheckoutSession.objects.filter(status="ACTIVE").count() == 3
    assert Attention.objects.filter(settled_at__isnull=True).count() == 2
    again = purged()
    assert (again["sessions"], again["events"], again["baskets"]) == (0, 0, 0)


def test_the_beginning_of_a_living_basket_goes_and_no_checkout_is_torn_apart(shopper: User) -> None:
    first = order(shopper, 1)
    shopper.place("shirt", 1)
    second = shopper.start().session.order_no
    shopper.finish(ordered=False)
    age_all_rows(timedelta(days=400))
    shopper.finish(ordered=True, order_no=first)  # A repeat: it still gets its answer.
    shopper.place("shirt", 2)
    assert purged() == {"sessions": 2, "events": 6, "baskets": 0, "left": 0}
    basket = Basket.objects.get()
    assert (basket.events, basket.events_purged) == (8, 6)
    assert sorted(Event.objects.values_list("number", flat=True)) == [7, 8]  # Its old contents had expired.
    assert shopper.lists()["cart"] == [("shirt", 2)]
    for order_no in (first, second):
        with pytest.raises(OrderNotFound):
            shopper.finish(ordered=True, order_no=order_no)
    assert invariant_checker.check() == []


def test_a_checkout_that_went_on_lately_keeps_its_whole_history(shopper: User) -> None:
    order(shopper, 1)
    shopper.place("shirt", 1)
    order_no = shopper.start().session.order_no
    shopper.finish(ordered=False)
    age_all_rows(timedelta(days=400))
    shopper.place("shirt", 5)
    Basket.objects.update(expires_at=F("expires_at") + timedelta(days=400))
    with pytest.raises(Exception, match="ended too long ago"):
        shopper.finish(ordered=True, order_no=order_no)
    assert purged()["sessions"] == 1
    assert CheckoutSession.objects.get().order_no == order_no
    assert invariant_checker.check() == []


def test_sold_pieces_that_explain_a_shortfall_stay_until_it_is_paid_off(shopper: User) -> None:
    order(shopper, 4)
    expire(shopper)
    age_all_rows(timedelta(days=400))
    holder = shopper.beside("ben")
    holder.place("shirt", 6)
    holder.start()
    supply.set_unsold(reports={"shirt": 2}, as_of=None, reason="fewer", actor=TESTER)
    assert available("shirt") == (0, 4)
    assert purged()["sessions"] == 0
    supply.set_unsold(reports={"shirt": 8}, as_of=None, reason="found", actor=TESTER)
    assert purged()["sessions"] == 1
    assert available("shirt") == (2, 0)
    assert invariant_checker.check() == []


def test_a_report_of_a_time_whose_sales_are_gone_is_refused_and_others_stay_right(shopper: User) -> None:
    order(shopper, 4)
    expire(shopper)
    age_all_rows(timedelta(days=400))
    purged()
    order(shopper, 1)
    last_purged = StockAdjustment.objects.get(kind="purged").as_of
    with pytest.raises(supply.SalesPurged, match="were purged"):
        supply.set_unsold(reports={"shirt": 10}, as_of=last_purged - timedelta(microseconds=1), reason="old", actor=TESTER)
    older = supply.set_unsold(reports={"shirt": 10}, as_of=last_purged - timedelta(days=1), reason="older", actor=TESTER)
    assert list(older.older) == ["shirt"]
    assert available("shirt") == (5, 0)
    supply.set_unsold(reports={"shirt": 9}, as_of=datetime.now(UTC) - timedelta(days=1), reason="yesterday", actor=TESTER)
    assert available("shirt") == (8, 0)
    assert invariant_checker.check() == []


def test_no_purge_keeps_less_than_the_time_for_late_orders(shopper: User, settings: Any) -> None:
    settings.BASKETS_GRACE_SECONDS = 400 * 24 * 3600
    order(shopper, 4)
    expire(shopper)
    age_all_rows(timedelta(days=366))
    assert purged()["sessions"] == 0
    age_all_rows(timedelta(days=400 - 366))
    assert purged()["sessions"] == 1


def test_an_event_that_the_feed_has_not_passed_on_stays(shopper: User) -> None:
    order(shopper, 4)
    expire(shopper)
    age_all_rows(timedelta(days=400))
    assert retention.purge_baskets(older_than=YEAR).events == 0
    feed.assign_positions()
    assert retention.purge_baskets(older_than=YEAR).events == 4


def test_a_token_before_the_purge_is_refused(shopper: User) -> None:
    other_shopper = shopper.beside("ben")
    other_shopper.place("shirt", 1)
    feed.assign_positions()
    _, old = feed.read(FeedPosition.objects.all(), after=None, limit=1)
    order(shopper, 1)
    expire(shopper)
    feed.assign_positions()
    page, new = feed.read(FeedPosition.objects.all(), after=old, limit=100)
    assert len(page) == 4
    age_all_rows(timedelta(days=400))
    purged()
    with pytest.raises(feed.EventsPurged):
        feed.read(FeedPosition.objects.all(), after=old, limit=100)
    other_shopper.place("shirt", 2)
    feed.assign_positions()
    assert [row.number for row in feed.read(FeedPosition.objects.all(), after=new, limit=100)[0]] == [2, 3]
    assert invariant_checker.check() == []


def test_purges_side_by_side_remove_everything_once_and_leave_what_is_in_use(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 2)
    users = [shopper.beside(f"user-{n}") for n in range(9)]
    for user in users:
        order(user, 1)
        expire(user)
    age_all_rows(timedelta(days=400))
    with holding_basket(users[0].owner.basket_id):
        done = run_concurrently([purged] * 4)
    assert [outcome for outcome in done if isinstance(outcome, Exception)] == []
    assert sum(outcome["baskets"] for outcome in done) + purged()["baskets"] == 9
    assert Basket.objects.count() == 0
    assert invariant_checker.check() == []


def test_a_purge_beside_buyers_keeps_the_account(shopper: User) -> None:
    olds = [shopper.beside(f"old-{n}") for n in range(4)]
    for user in olds:
        order(user, 1)
        expire(user)
    age_all_rows(timedelta(days=400))
    buyers = [shopper.beside(f"buyer-{n}") for n in range(4)]
    outcomes = run_concurrently(
        [*(lambda b=buyer: order(b, 1) for buyer in buyers), purged, *(lambda o=user: order(o, 1) for user in olds[:2])]
    )
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception)] == []
    assert available("shirt") == (0, 0)
    purged()
    assert invariant_checker.check() == []


def test_the_command_rehearses_purges_and_finds_nothing_the_second_time(run: Run, shopper: User, stored_rows: Any) -> None:  # noqa: F811
    order(shopper, 2)
    idempotency.claim(basket_id=shopper.owner.basket_id, key="key", fingerprint=bytes(32))
    idempotency.remember(basket_id=shopper.owner.basket_id, key="key", status=200, body="{}")
    expire(shopper)
    age_all_rows(timedelta(days=400))
    feed.assign_positions()
    before = stored_rows()
    rehearsed = run("purge_history", "--dry-run")
    assert (rehearsed.code, rehearsed.out) == (0, "Would purge 1 answers, 1 checkouts, 4 events, 1 baskets.\n")
    assert stored_rows() == before
    assert run("purge_history", "--older-than-days", "500", "--json").data == {
        "answers": 1, "checkouts": 0, "events": 0, "baskets": 0, "left_in_use": 0, "stopped": False, "dry_run": False,
    }  # fmt: skip
    assert IdempotencyRecord.objects.count() == 0
    assert run("purge_history").out == "Purged 0 answers, 1 checkouts, 4 events, 1 baskets.\n"
    assert run("purge_history").out == "Purged 0 answers, 0 checkouts, 0 events, 0 baskets.\n"
    assert run("purge_history", "--older-than-days", "0").code == 2
    assert invariant_checker.check() == []
