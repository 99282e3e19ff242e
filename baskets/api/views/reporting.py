"""The calls for a partner's back end: lists of its baskets and checkouts, and the feed of what happened to them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.db import DatabaseError
from django.db.models import QuerySet
from django.http import HttpResponse
from rest_framework.request import Request

from baskets.api.exceptions import ApiError, invalid
from baskets.api.lists import queries
from baskets.api.lists.filters import BasketFilterSet, EventFilterSet, ListFilterSet, SessionFilterSet
from baskets.api.lists.pagination import ListCursor
from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.schema import operations
from baskets.api.views.base import ApiViewSet
from baskets.db.errors import Fault, fault_of, reading
from baskets.domain.events import feed
from baskets.domain.events.payloads import told
from baskets.models import FeedPosition

# A parameter of every call; see `tracking`.
PROVIDER = "provider_id"

log = structlog.get_logger("baskets.api")


class BackendViewSet(ApiViewSet):
    """What only a server key may ask, because it speaks of all users of a partner."""

    token_required = False
    server_only = True

    @operations.list_baskets
    def baskets(self, request: Request) -> HttpResponse:
        """List the baskets of all users, filtered and page by page."""
        return self.page("baskets", BasketFilterSet, queries.partner_baskets(self.caller.partner_id), queries.basket_page)

    @operations.list_sessions
    def sessions(self, request: Request) -> HttpResponse:
        """List checkouts with what became of them, filtered and page by page."""
        return self.page("sessions", SessionFilterSet, queries.partner_sessions(self.caller.partner_id), queries.session_page)

    @operations.read_events
    def events(self, request: Request) -> HttpResponse:
        """Read on in the feed of everything that happened."""
        rows, limit, bound, after = self.asked("events", EventFilterSet, FeedPosition.objects.filter(partner_id=self.caller.partner_id))
        give_positions()
        try:
            page, place = reading(lambda: feed.read(rows, after=None if after is None else _place(after), limit=limit))
        except feed.EventsPurged as gone:
            raise ApiError("events_purged") from gone
        except feed.EventsRewound as gone:
            raise ApiError("events_rewound") from gone
        token = bound.token([place.position, place.event_id, place.at.isoformat() if place.at else None])
        return json_response(success_body([told(row) for row in page], next_token=token))

    def page(
        self, name: str, filters: type[ListFilterSet], rows: QuerySet[Any], read: Callable[..., tuple[list[Any], Any]]
    ) -> HttpResponse:
        """Answer with one page of a list, and with the token of the next if there are more."""
        rows, limit, bound, after = self.asked(name, filters, rows)
        shown, last = reading(lambda: read(rows, after=after, limit=limit))
        return json_response(success_body(shown, next_token=None if last is None else bound.token(last)))

    def asked(self, name: str, filters: type[ListFilterSet], rows: QuerySet[Any]) -> tuple[QuerySet[Any], int, ListCursor, Any]:
        """Check the query of a list: which rows, how many, what a token is bound to, and where to go on.

        :raises ApiError: validation_failed, throttled.
        """
        known = [*filters.base_filters, "limit", "nextToken"]
        given = {name: values for name in known if (values := self.query(name))}
        wrong = {name: "Must be given once, and not empty." for name, values in given.items() if len(values) > 1 or not values[0]}
        # A misspelt filter that was ignored would widen the question.
        unknown = self.request.query_params.keys() - {*known, PROVIDER}
        wrong |= dict.fromkeys(sorted(unknown), "Is not a parameter of this call.")
        said = {name: values[0] for name, values in given.items()}
        limit, token = said.pop("limit", str(queries.DEFAULT_LIMIT)), said.pop("nextToken", None)
        chosen = filters(said, rows, partner_id=self.caller.partner_id)
        wrong = chosen.wrong | wrong
        if not (limit.isascii() and limit.isdigit() and len(limit) <= 3 and 1 <= int(limit) <= queries.MAX_LIMIT):
            wrong.setdefault("limit", queries.LIMIT_RULE)
        if wrong:
            raise invalid(wrong)
        bound = ListCursor(partner_id=self.caller.partner_id, call=name, filters=said)
        after = None if token is None else bound.place(token)
        self.read()
        return chosen.qs, int(limit), bound, after


def give_positions() -> None:
    """Give positions to what was committed since. Where the database cannot do that now, what has them is read."""
    try:
        feed.sequence()
    except DatabaseError as error:
        if fault_of(error) is Fault.BUG:
            raise
        log.warning("feed_not_sequenced", fault=fault_of(error).name)


def _place(said: list[Any]) -> feed.Place:
    position, event_id, at = said
    return feed.Place(position=position, event_id=event_id, at=None if at is None else datetime.fromisoformat(at))
