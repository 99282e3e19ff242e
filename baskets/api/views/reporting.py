"""The calls for a partner's back end: lists of its baskets and checkouts, and the feed of what happened to them."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.auth.permissions import BearerTokenIfSent, ServerKeyRequired
from baskets.api.exceptions import ApiError
from baskets.api.lists import queries
from baskets.api.lists.filters import BasketFilterSet, EventFilterSet, ListFilterSet, SessionFilterSet
from baskets.api.lists.pagination import ListRequest, Page, parse_list_request
from baskets.api.long_polling import MAX_WAIT_SECONDS, Waiter, feed_watch, suspension_of
from baskets.api.schema import reporting_operations
from baskets.api.views.base import ApiViewSet
from baskets.db.errors import Fault, fault_of
from baskets.domain.events import feed
from baskets.domain.events.payloads import event_payload
from baskets.models import FeedPosition

log = structlog.get_logger("baskets.api")


class BackendViewSet(ApiViewSet):
    """Calls for server keys only, because they concern all users of a partner."""

    permission_classes = (BearerTokenIfSent, ServerKeyRequired)

    @reporting_operations.list_baskets
    def baskets(self, request: Request) -> HttpResponse:
        """List the baskets of all users, filtered and page by page."""
        return self.paginate("baskets", BasketFilterSet, queries.partner_baskets(self.caller.partner_id), queries.basket_page)

    @reporting_operations.list_sessions
    def sessions(self, request: Request) -> HttpResponse:
        """List checkouts with their outcomes, filtered and page by page."""
        return self.paginate("sessions", SessionFilterSet, queries.partner_sessions(self.caller.partner_id), queries.session_page)

    @reporting_operations.read_events
    def events(self, request: Request) -> HttpResponse:
        """Read the next events of the feed.

        :raises ApiError: `events_purged`, `events_rewound`, `validation_failed`.
        """
        rows = FeedPosition.objects.filter(partner_id=self.caller.partner_id)
        listing = self.list_request("events", EventFilterSet, rows, max_wait=MAX_WAIT_SECONDS)
        after = None if listing.after is None else _cursor_from(listing.after)
        assign_pending_positions()
        suspension = suspension_of(request) if listing.wait_seconds and request.method == "GET" else None
        end = feed.read_end() if suspension else 0
        try:
            page, place = self.read(feed.read, listing.rows, after=after, limit=listing.limit)
        except feed.EventsPurged as gone:
            raise ApiError("events_purged") from gone
        except feed.EventsRewound as gone:
            raise ApiError("events_rewound") from gone
        if suspension and not page and (left := listing.wait_seconds - suspension.age_seconds) > 0:
            waiter = Waiter(partner_id=self.caller.partner_id, position=end, until=time.monotonic() + left, rows=listing.rows)
            if feed_watch.suspend(suspension, waiter):
                return self.respond([])
        token = listing.cursor.encrypt([place.position, place.event_id, place.at.isoformat() if place.at else None])
        return self.respond([event_payload(row, sandbox=self.caller.sandbox) for row in page], next_token=token)

    def paginate(
        self, name: str, filter_set: type[ListFilterSet], rows: QuerySet[Any], read_page: Callable[[ListRequest], Page]
    ) -> HttpResponse:
        """Respond with one page of a list, and with the token of the next page if more rows exist."""
        listing = self.list_request(name, filter_set, rows)
        page = self.read(read_page, listing)
        return self.respond(page.items, next_token=None if page.last is None else listing.cursor.encrypt(page.last))

    def list_request(self, name: str, filter_set: type[ListFilterSet], rows: QuerySet[Any], *, max_wait: int | None = None) -> ListRequest:
        """Check the query of a list call, and count the call against the limit of its key.

        :param max_wait: the most seconds that the call may wait; None: it takes no `wait`.
        :raises ApiError: `validation_failed`.
        :raises Throttled: the limit of the key is reached.
        """
        listing = parse_list_request(
            self.query_params, call=name, filter_set=filter_set, rows=rows, partner_id=self.caller.partner_id, max_wait=max_wait
        )
        self.validated()
        return listing


def assign_pending_positions() -> None:
    """Give positions to committed events that have none. If the database cannot do that now, the feed is read without them."""
    try:
        feed.assign_positions()
    except DatabaseError as error:
        if fault_of(error) is Fault.INTERNAL:
            raise
        log.warning("feed_not_sequenced", fault=fault_of(error).name)


def _cursor_from(values: list[Any]) -> feed.FeedCursor:
    position, event_id, at = values
    return feed.FeedCursor(position=position, event_id=event_id, at=None if at is None else datetime.fromisoformat(at))
