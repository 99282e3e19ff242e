"""Consumers of the feed that wait for events without a thread: one thread of each process looks for all of them.

The process server keeps a waiting request, and handles it again from the start when its partner has events, or when its time is over.
Under another server there is no waiting. Source: ADR 51.
"""

import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Protocol

import structlog
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import QuerySet
from django.http import HttpRequest

from baskets import conf
from baskets.domain.events import feed
from baskets.models import FeedPosition

log = structlog.get_logger("baskets.api")

MAX_WAIT_SECONDS = 30
POLL_SECONDS = 0.2
RETRY_SECONDS = 1.0
# So that the consumers of one partner leave room for others.
MAX_PER_PARTNER = 10
ENVIRON_KEY = "http_server.suspension"


class Suspension(Protocol):
    """What the process server offers to each request. See `basket_project.http_server.suspension`."""

    is_suspended: bool
    was_suspended: bool

    @property
    def age_seconds(self) -> float:
        """The time since the request was handled first."""

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has disconnected."""

    def suspend(self) -> None:
        """Put the request aside once the application has returned."""

    def resume(self) -> None:
        """Let the request be handled again."""


def suspension_of(request: HttpRequest) -> Suspension | None:
    """Return the suspension of a request; None if the server offers none, or stops."""
    suspension: Suspension | None = request.META.get(ENVIRON_KEY)
    return suspension


@dataclass(frozen=True, kw_only=True)
class Waiter:
    """A waiting request.

    :param position: the end of the feed before it was read: an event after it ends the wait.
    :param until: on the monotonic clock.
    :param rows: the events that its filters choose; None: all events of its partner.
    """

    partner_id: int
    position: int
    until: float
    rows: QuerySet[FeedPosition] | None = None


class FeedWatch:
    """The waiting requests of this process, and the thread that looks for their events while there are any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[Suspension, Waiter] = {}
        self._is_watching = False

    def suspend(self, suspension: Suspension, waiter: Waiter) -> bool:
        """Suspend a request until its partner has events, or its time is over.

        :returns: False if too many requests wait already; then nothing was done.
        """
        with self._lock:
            if suspension not in self._waiters:
                per_partner = Counter(waiting.partner_id for waiting in self._waiters.values())
                if len(self._waiters) >= conf.feed_waiters() or per_partner[waiter.partner_id] >= MAX_PER_PARTNER:
                    return False
            if not self._is_watching:
                # It waits for the lock. Where no thread can be started, nothing waits for it.
                threading.Thread(target=self._watch, name="feed watch", daemon=True).start()
                self._is_watching = True
            suspension.suspend()
            self._waiters[suspension] = waiter
        return True

    def _watch(self) -> None:
        """Resume requests until none waits. Whatever fails, no request waits beyond its time."""
        pause = POLL_SECONDS
        try:
            while True:
                time.sleep(pause)
                with self._lock:
                    waiters = dict(self._waiters)
                    self._is_watching = bool(waiters)
                if not waiters:
                    return
                now, pause = time.monotonic(), POLL_SECONDS
                due = {suspension for suspension, waiter in waiters.items() if suspension.is_abandoned or waiter.until <= now}
                try:
                    found, passed = _with_events({suspension: waiter for suspension, waiter in waiters.items() if suspension not in due})
                    due |= found
                    with self._lock:
                        self._waiters |= passed
                except (DatabaseError, InterfaceError) as error:
                    log.warning("feed_watch_waits_for_the_database", error=type(error).__qualname__)
                    connection.close()
                    pause = RETRY_SECONDS
                except Exception:
                    # A defect of ours: the consumers get empty responses, and poll.
                    log.exception("feed_watch_failed")
                    due = set(waiters)
                for suspension in due:
                    with self._lock:
                        del self._waiters[suspension]
                    suspension.resume()
        finally:
            connection.close()


def _with_events(waiters: dict[Suspension, Waiter]) -> tuple[set[Suspension], dict[Suspension, Waiter]]:
    """Give positions to new events, and look for those that the requests wait for.

    :returns: the requests whose events have arrived, and those that have passed only events which their filters leave out.
    """
    if not waiters:
        return set(), {}
    feed.assign_positions()
    numbered = list(waiters.items())
    unread = feed.find_unread({number: (waiter.partner_id, waiter.position) for number, (_, waiter) in enumerate(numbered)})
    due, passed = set[Suspension](), dict[Suspension, Waiter]()
    for number, last, has_events in unread:
        suspension, waiter = numbered[number]
        if not has_events:
            continue
        if waiter.rows is None or waiter.rows.filter(position__gt=waiter.position, position__lte=last).exists():
            due.add(suspension)
        else:
            passed[suspension] = replace(waiter, position=last)
    return due, passed


feed_watch = FeedWatch()
