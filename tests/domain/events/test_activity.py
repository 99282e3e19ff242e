"""Counts by minute and by hour: each event once, in whatever batches, beside other counters, and after a transaction that was lost."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError
from django.db.models import Sum

from baskets.domain.checkout import expiry
from baskets.domain.errors import Refusal
from baskets.domain.events import activity, feed
from baskets.domain.maintenance import invariant_checker
from baskets.models import ActivityState, Event, FeedPosition, PartnerActivity, ProductActivity
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.concurrency.barrier import run_concurrently
from tests.concurrency.test_feed import feed_state
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db(transaction=True)
COUNTS = ("started", "ordered", "late", "aborted", "expired", "flagged", "pieces")


@pytest.fixture
def users() -> Iterator[list[User]]:
    """Users of two partners: of the first, one ordered, one ordered late, one expired, one is active, one tests; and one of the second."""
    ProductFactory(product_id="shirt", unsold=50)
    ProductFactory(product_id="song")
    first, second = PartnerFactory(), PartnerFactory()
    made = [User(Owner(partner_id=(second if n == 5 else first).pk, user_id=f"user-{n}")) for n in range(6)]
    for user in made:
        user.place("shirt", 2)
        user.place("song")
    made[0].start()
    made[0].finish(True)
    order_no = made[1].start().session.order_no
    made[1].finish(False)
    with pytest.raises(Refusal):
        made[1].finish(True)
    made[1].finish(True, order_no)
    made[2].start()
    made[2].wait(hours=1)
    assert expiry.sweep_sessions().expired == 1
    made[3].start()
    made[4].start(test_mode=True)
    made[4].finish(True)
    made[5].start()
    made[5].finish(True)
    yield made
    assert invariant_checker.check_invariants() == []


def partner_counts(seconds: int) -> list[tuple[int, ...]]:
    rows = PartnerActivity.objects.filter(seconds=seconds).values("partner").annotate(**{f"all_{name}": Sum(name) for name in COUNTS})
    return [tuple(row[f"all_{name}"] for name in COUNTS) for row in rows.order_by("partner")]


def product_counts(seconds: int) -> list[tuple[str, int, int]]:
    rows = ProductActivity.objects.filter(seconds=seconds).values("product_id").annotate(o=Sum("orders"), p=Sum("pieces"))
    return [(row["product_id"], row["o"], row["p"]) for row in rows.order_by("product_id")]


def assert_counted() -> None:
    for seconds in (60, 3600):
        assert partner_counts(seconds) == [(4, 2, 1, 1, 1, 1, 6), (1, 1, 0, 0, 0, 0, 3)]
        assert product_counts(seconds) == [("shirt", 3, 6), ("song", 3, 3)]
    assert ActivityState.objects.get().active == 1


def test_every_checkout_is_counted_by_partner_and_by_product_and_tests_are_not(users: list[User]) -> None:
    activity.count_events()
    assert_counted()
    starts = {(row.seconds, row.starts_at) for row in ProductActivity.objects.all()}
    expected: set[tuple[int, datetime]] = set()
    for moment in Event.objects.filter(kind__startswith="checkout_ordered", session__test_mode=False).values_list("at", flat=True):
        minute = moment.replace(second=0, microsecond=0)
        expected |= {(60, minute), (3600, minute.replace(minute=0))}
    assert starts == expected


def test_nothing_is_counted_twice(users: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activity, "BATCH", 3)
    activity.count_events(batches=1)
    assert ActivityState.objects.get().position == 3
    run_concurrently([activity.count_events] * 4)
    activity.count_events()
    assert_counted()


def test_a_lost_transaction_has_counted_nothing(users: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        broken = activity.Statement("broken", f"{activity.COUNT.sql.rstrip()} AND 1 / (%(up_to)s - %(up_to)s) = 1")
        patch.setattr(activity, "COUNT", broken)
        with pytest.raises(DatabaseError):
            activity.count_events()
    assert not ActivityState.objects.exists()
    assert not PartnerActivity.objects.exists()
    activity.count_events()
    assert_counted()


def test_the_sweep_counts_and_a_purge_counts_before_it_deletes(users: list[User], run: Run) -> None:  # noqa: F811
    assert run("expire_baskets").code == 0
    assert_counted()
    age_all_rows(timedelta(days=400))
    before = ActivityState.objects.get()
    assert run("purge_history").code == 0
    assert not PartnerActivity.objects.exists()
    assert not ProductActivity.objects.exists()
    assert not FeedPosition.objects.filter(position=1).exists()
    assert ActivityState.objects.get().active == before.active == 1


def test_events_that_were_never_counted_are_counted_before_a_purge(users: list[User], run: Run) -> None:  # noqa: F811
    age_all_rows(timedelta(days=400))
    assert run("purge_history").code == 0
    state = ActivityState.objects.get()
    assert state.active == 1
    assert not PartnerActivity.objects.exists()


def test_a_dry_run_of_the_sweep_counts_nothing(users: list[User], run: Run) -> None:  # noqa: F811
    assert run("expire_baskets", "--dry-run").code == 0
    assert not ActivityState.objects.exists()


def test_old_events_move_only_the_mark(users: list[User]) -> None:
    age_all_rows(timedelta(days=3))
    activity.count_events()
    assert partner_counts(60) == []
    assert len(partner_counts(3600)) == 2
    age_all_rows(timedelta(days=40))
    activity.delete_old_counts()
    assert partner_counts(3600) == []


def test_without_new_events_counting_reads_two_rows(users: list[User], django_assert_num_queries: Any) -> None:
    activity.count_events()
    feed_state()
    with django_assert_num_queries(2):
        activity.count_events()


def test_a_count_of_some_batches_assigns_positions_in_as_many(users: list[User], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BATCH", 4)
    activity.count_events(batches=1)
    assert FeedPosition.objects.count() == 4
    assert ActivityState.objects.get().position == 4
    activity.count_events(stop=lambda: True)
    assert ActivityState.objects.get().position == 4
