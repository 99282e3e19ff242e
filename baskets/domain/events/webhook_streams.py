"""The work of a deliverer in its memory: lanes, their events that wait, and what is in flight. Stores and sends nothing."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import F, Func, IntegerField, Q
from django.db.models.lookups import In

from baskets.domain.events import webhook_lanes
from baskets.domain.events.payloads import ENTRY_COLUMNS, FeedEntry
from baskets.domain.events.webhook_requests import Signers
from baskets.models import FeedPosition, WebhookEndpoint

# How many events of an endpoint are read at once.
BATCH = 250
# How many requests to an endpoint may be in flight at first; each success allows one more, each failure fewer.
FIRST_WINDOW = 8


class Event(NamedTuple):
    """An event to deliver."""

    basket_id: UUID
    entry: FeedEntry


@dataclass(kw_only=True, eq=False)
class Lane:
    """A held lane.

    :param read: the position up to which its events are in `waiting`.
    :param done: the position to store: every event up to it was acknowledged or belongs to a blocked basket.
    """

    lane_id: int
    number: int
    read: int
    done: int
    stored: int
    waiting: deque[Event] = field(default_factory=deque)
    in_flight: bool = False
    is_held: bool = True


@dataclass(kw_only=True, eq=False)
class Stream:
    """The held lanes of one endpoint.

    :param read: the position up to which the feed was read.
    :param window: how many requests may be in flight.
    :param dirty_since: when, on this machine's clock, its partner first had events that the stored positions of some lanes have not
        passed; None if there are none.
    :param is_due: whether the endpoint does not wait after a failure.
    :param has_more: whether the last read of the feed may have left events; otherwise the next read can wait.
    """

    endpoint: WebhookEndpoint
    signers: Signers
    lanes: dict[int, Lane]
    read: int
    blocked: set[UUID]
    window: int = FIRST_WINDOW
    in_flight: int = 0
    dirty_since: float | None = None
    is_due: bool = True
    has_more: bool = True
    retrying: set[int] = field(default_factory=set)

    @property
    def lane_count(self) -> int:
        """How many lanes the endpoint has."""
        return 1 if self.endpoint.strict else webhook_lanes.LANES

    def read_events(self, *conditions: Q, limit: int, **values: Any) -> list[Event]:
        """Read events for the endpoint, in the order of the feed.

        :param conditions: of the events, in addition to `values`.
        """
        rows = FeedPosition.objects.filter(*conditions, partner_id=self.endpoint.partner_id, **values)
        if self.endpoint.kinds:
            rows = rows.filter(kind__in=self.endpoint.kinds)
        found = rows.order_by("position").values_list("event__basket_id", *ENTRY_COLUMNS)[:limit]
        return [Event(basket_id=basket_id, entry=FeedEntry._make(columns)) for basket_id, *columns in found]

    def has_room(self) -> bool:
        """Return whether fewer than `BATCH` events wait."""
        return sum(len(lane.waiting) for lane in self.lanes.values()) < BATCH

    def read_next(self, last: int) -> None:
        """Read the next events of the held lanes, `BATCH` at most, and let them wait there.

        :param last: the position up to which to read.
        """
        conditions = []
        if len(self.lanes) < self.lane_count:
            number = Func(
                F("event__basket_id"),
                template=f"(get_byte(uuid_send(%(expressions)s), 15) & {self.lane_count - 1})",
                output_field=IntegerField(),
            )
            conditions = [Q(In(number, list(self.lanes)))]
        page = self.read_events(*conditions, position__gt=self.read, position__lte=last, limit=BATCH)
        self.dirty_since = self.dirty_since or time.monotonic()
        self.has_more = len(page) == BATCH
        self.read = page[-1].entry.position if self.has_more else last
        for event in page:
            lane = self.lane_of(event.basket_id)
            if lane and event.entry.position > lane.read:
                lane.waiting.append(event)
                lane.read = event.entry.position

    def lane_of(self, basket_id: UUID) -> Lane | None:
        """Return the lane of a basket; None if it is not held."""
        return self.lanes.get(webhook_lanes.lane_number(basket_id, lanes=self.lane_count))

    def has_work(self) -> bool:
        """Return whether an event waits, or its outcome is still to be recorded."""
        return any(lane.waiting or lane.in_flight for lane in self.lanes.values())

    def positions_to_store(self, *, idle_too: bool) -> dict[int, int]:
        """Return the new positions of lanes, by their primary keys. See Note [Idle lanes].

        :param idle_too: with those of all lanes that had no event.
        """
        for lane in self.lanes.values():
            if not lane.waiting and not lane.in_flight and (idle_too or lane.done > lane.stored):
                # The feed was read so far, and the lane has no event there.
                lane.done = lane.read = max(lane.read, self.read)
        return {lane.lane_id: lane.done for lane in self.lanes.values() if lane.done > lane.stored}

    def set_stored(self, positions: dict[int, int], *, idle_too: bool) -> None:
        """Remember what `positions_to_store` returned, once it is stored."""
        for lane in self.lanes.values():
            lane.stored = max(lane.stored, positions.get(lane.lane_id, 0))
        if idle_too:
            self.dirty_since = time.monotonic() if self.has_work() else None


@dataclass(frozen=True, kw_only=True)
class Job:
    """One event on its way.

    :param block_id: of the blocked basket whose event it is; None for the next event of the lane.
    :param block_position: the stored position of the blocked basket.
    """

    stream: Stream
    lane: Lane
    event: Event
    block_id: int | None = None
    block_position: int = 0
