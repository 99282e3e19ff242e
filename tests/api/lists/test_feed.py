"""The feed of events: its order, its filters, what it hides, and where it begins after a purge."""

import re

import psycopg
import pytest
from django.db import InternalError

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.events import feed
from baskets.domain.support import basket_repairs
from baskets.models import Basket, Partner
from tests.api.conftest import Api
from tests.api.lists.reading import EVENTS, pages


def test_feed_shows_events_in_order_and_continues_from_its_token(api: Api) -> None:
    empty = api.get(EVENTS)
    assert empty.data == []
    api.post("/baskets/users/ada/products/shirt", {"count": 2}, X_Request_ID="call-1")
    order_no = api.start().data["orderNo"]
    api.finish(True)
    answer = api.get(f"{EVENTS}?nextToken={empty.body['nextToken']}")
    assert [(event["kind"], event["number"], event["orderNo"]) for event in answer.data] == [
        ("item_placed", 1, None),
        ("checkout_started", 2, order_no),
        ("checkout_ordered", 3, order_no),
    ]
    first = answer.data[0]
    assert (first["userId"], first["requestId"], first["actor"]["kind"], first["revision"]) == ("ada", "call-1", "key", 1)
    assert api.key is not None
    assert first["actor"]["key"] == api.key.split("_")[1]
    assert re.fullmatch("evt-[0-9a-f]{32}", first["id"])
    # The last page has a token too, for future events.
    end = api.get(f"{EVENTS}?nextToken={answer.body['nextToken']}")
    assert end.data == []
    api.place("song")
    assert [event["number"] for event in api.get(f"{EVENTS}?nextToken={end.body['nextToken']}").data] == [4]


def test_feed_is_filtered_by_kind_and_by_user(api: Api) -> None:
    for user in ("ada", "bob"):
        api.place("song", user=user)
        api.start(user=user)
    assert [event["userId"] for event in pages(api, f"{EVENTS}?kind=checkout_started", limit=1)] == ["ada", "bob"]
    assert [event["kind"] for event in pages(api, f"{EVENTS}?userId=bob", limit=1)] == ["item_placed", "checkout_started"]


def test_feed_hides_the_reasons_of_staff(api: Api, partner: Partner) -> None:
    api.place("song", 1)
    staff = Actor(kind=ActorKind.STAFF, name="martha")
    runner.run(lambda: basket_repairs.extend(basket=Basket.objects.get(), days=90, expected_events=1, reason="she rang twice", actor=staff))
    feed_response = api.get(EVENTS)
    assert [event["kind"] for event in feed_response.data] == ["item_placed", "repaired"]
    assert feed_response.data[1]["actor"] == {"kind": "staff", "key": None}
    assert feed_response.data[1]["data"]["repair"] == "extend"
    assert b"martha" not in feed_response.raw
    assert b"rang" not in feed_response.raw


def test_feed_without_new_positions_is_read_up_to_the_last_one(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is read-only."""
    api.place("song", 1)
    assert len(api.get(EVENTS).data) == 1
    api.place("song", 2)
    with monkeypatch.context() as read_only:
        read_only.setattr(feed, "_assign_batch", read_only_error)
        assert len(api.get(EVENTS).data) == 1
    assert len(api.get(EVENTS).data) == 2


def read_only_error(_size: int) -> int:
    raise InternalError from psycopg.errors.ReadOnlySqlTransaction("read only")


def test_token_before_the_purge_is_refused(api: Api) -> None:
    api.place("song", 1)
    old = api.get(EVENTS).body["nextToken"]
    api.place("song", 2)
    api.place("song", 3)
    new = api.get(EVENTS).body["nextToken"]
    feed.mark_purged(up_to=3)
    answer = api.get(f"{EVENTS}?nextToken={old}")
    assert answer.refusal == (422, 422, "events_purged")
    assert set(answer.body) == {"error"}
    assert api.get(f"{EVENTS}?nextToken={new}").data == []
    assert api.get(EVENTS).data == []
