"""The feed beside its writers: a reader that continues from a token sees every event once, and those of a basket in order."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from django.db import transaction

from baskets.domain.baskets import items
from baskets.domain.errors import Refusal
from baskets.domain.events import feed
from baskets.models import Event, FeedPosition, FeedState
from tests.concurrency.barrier import WAIT_SECONDS, run_concurrently
from tests.conftest import APP
from tests.domain.scenarios import User
from tests.threads import beside

T = TypeVar("T")


@dataclass
class Consumer:
    """A reader of the feed of all partners, in small pages, that keeps its place only."""

    place: feed.FeedCursor | None = None
    seen: list[int] = field(default_factory=list)

    def read_on(self, *, limit: int = 7) -> int:
        feed.assign_positions()
        page, self.place = feed.read(FeedPosition.objects.all(), after=self.place, limit=limit)
        self.seen += [row.event_id for row in page]
        return len(page)

    def read_to_the_end(self) -> list[int]:
        while self.read_on():
            pass
        return self.seen


def assert_all_in_order(seen: list[int]) -> None:
    """Every event there is, each once, and those of a basket by number."""
    events = {event.pk: event for event in Event.objects.all()}
    assert sorted(seen) == sorted(events)
    numbers: dict[object, list[int]] = defaultdict(list)
    for pk in seen:
        numbers[events[pk].basket_id].append(events[pk].number)
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def feed_state() -> FeedState:
    """Give positions until the mark has reached the last event; transactions of other tests beside may keep it for a while."""
    for _ in range(10 * WAIT_SECONDS):
        feed.assign_positions()
        state = FeedState.objects.get()
        if state.settled_id == Event.objects.latest("pk").pk:
            return state
        threading.Event().wait(0.1)
    raise AssertionError


@contextmanager
def written_but_not_committed(user: User, *, events: int = 1) -> Iterator[Callable[[], None]]:
    """Events of a user whose transaction stays open until the returned function is called."""
    written, end = threading.Event(), threading.Event()

    def write() -> None:
        with transaction.atomic():
            for count in range(1, events + 1):
                items.place_item(owner=user.owner, product_id="cap", count=count, actor=APP)
            written.set()
            assert end.wait(WAIT_SECONDS)

    with beside(write, stop=end.set) as (done,):

        def commit() -> None:
            end.set()
            done.result(WAIT_SECONDS)

        assert written.wait(WAIT_SECONDS)
        yield commit


def test_feed_readers_beside_writers_miss_no_event(shopper: User) -> None:
    """Eight writers, half of them on one basket, and two readers, one of whom is killed and goes on from the place it kept."""
    written = threading.Event()

    def write(n: int) -> None:
        user = shopper.beside(f"user-{n}") if n % 2 else shopper
        for count in range(1, 16):
            user.place("cap" if count % 3 else "shirt", count)
            if n % 2 and count % 5 == 0:
                user.place("cap", 1)
                user.start()
                user.finish(ordered=count % 2 == 0)

    def read() -> list[int]:
        kept, seen = None, []
        while not written.is_set():
            consumer = Consumer(place=kept)  # Recreated for every page; it knows its place only.
            consumer.read_on()
            kept, seen = consumer.place, seen + consumer.seen
        return seen + Consumer(place=kept).read_to_the_end()

    with beside(read, read, stop=written.set) as readers:
        outcomes = run_concurrently([lambda n=n: write(n) for n in range(8)])
    seen = [reader.result() for reader in readers]
    assert [outcome for outcome in outcomes if isinstance(outcome, Exception) and not isinstance(outcome, Refusal)] == []
    assert seen[0] == seen[1]
    assert len(seen[0]) > 100
    assert_all_in_order(seen[0])


def test_event_committed_late_is_not_skipped(shopper: User) -> None:
    """Its id is lower than one that was read before: by ids it would never have been seen."""
    consumer = Consumer()
    with written_but_not_committed(shopper.beside("late")) as commit:
        shopper.place("shirt", 1)
        (early,) = consumer.read_to_the_end()
        for _ in range(4):
            feed.assign_positions()
        assert FeedState.objects.get().settled_id < early
        commit()
    _, late = consumer.read_to_the_end()
    assert late < early
    assert Event.objects.filter(pk__gt=early).count() == 0  # The control: what a reader by ids would still find.


def test_mark_advances_once_no_older_transaction_runs(shopper: User) -> None:
    with written_but_not_committed(shopper.beside("late")) as commit:
        shopper.place("shirt", 1)
        for _ in range(4):
            feed.assign_positions()
        commit()
    state = feed_state()
    assert state.seen_id == Event.objects.order_by("-pk").values_list("pk", flat=True)[0]
    assert state.position == 2


def test_mark_advances_past_events_that_arrived_while_it_waited(shopper: User) -> None:
    """And then a reader costs one look, however many there were."""
    shopper.place("shirt", 1)
    feed.assign_positions()
    shopper.place("shirt", 2)
    feed.assign_positions()
    assert feed_state().settled_id == Event.objects.latest("pk").pk
    before = FeedState.objects.get().horizon
    assert feed.assign_positions() == 0
    assert FeedState.objects.get().horizon == before


def test_feed_in_small_batches_reaches_every_event(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BATCH", 2)
    for count in range(1, 8):
        shopper.place("shirt", count)
    assert feed.assign_positions() == 7
    assert_all_in_order(Consumer().read_to_the_end())


def test_mark_does_not_pass_late_events_beyond_one_batch(shopper: User, monkeypatch: pytest.MonkeyPatch) -> None:
    """More events than a batch are committed below ids that were seen: the mark waits until the last of them has its position."""
    monkeypatch.setattr(feed, "BATCH", 2)
    with written_but_not_committed(shopper.beside("late"), events=7) as commit:
        shopper.place("shirt", 1)
        for _ in range(3):  # One round sees the event, one sets the horizon, one finds that the mark has to wait.
            feed.assign_positions()
        seen = Event.objects.latest("pk").pk
        assert FeedState.objects.get().seen_id == seen
        commit()
    assert feed_state().settled_id == seen
    assert Event.objects.filter(place__isnull=True).count() == 0
    assert FeedState.objects.get().position == 8
    assert_all_in_order(Consumer().read_to_the_end())


def test_horizon_of_another_cluster_does_not_block_the_feed(shopper: User) -> None:
    """A database restored on another cluster restarts its transaction counter."""
    shopper.place("shirt", 1)
    feed.assign_positions()
    FeedState.objects.update(settled_id=0, horizon=2**60)
    shopper.place("shirt", 2)
    assert feed_state().position == 2


def test_concurrent_assignments_give_each_event_one_position(shopper: User) -> None:
    for count in range(1, 30):
        shopper.place("shirt", count)
    assert sum(run_concurrently([feed.assign_positions] * 6)) == 29
    assert_all_in_order(Consumer().read_to_the_end())
