"""The back-end lists: filters, pages that stay correct while rows change, and a cost that does not depend on the page."""

import base64
import hashlib
import json
import re
from datetime import timedelta
from typing import Any
from urllib.parse import unquote

import psycopg
import pytest
from django.core import signing
from django.db import InternalError, connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from baskets.api.lists.pagination import ENCRYPTION_PURPOSE, ListCursor
from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import expiry
from baskets.domain.events import feed
from baskets.domain.support import basket_repairs
from baskets.encryption import decrypt_token, encrypt_token
from baskets.models import Basket, Event, FeedPosition, FeedState, Partner
from tests.api.conftest import Api, Issue, PassTime, Sells, Stored, Unchanged, resolved, schema

BASKETS, SESSIONS, EVENTS = LISTS = ("/baskets", "/baskets/checkout/sessions", "/baskets/events")


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("shirt", unsold=50, price=1000)
    sells("song", price=99)
    sells("gift", price=None, currency="")


def users(answer: Any) -> list[str]:
    return [row["userId"] for row in answer.data]


def pages(api: Api, path: str, *, limit: int) -> list[Any]:
    """Read a list to its end."""
    found: list[Any] = []
    token = ""
    while True:
        answer = api.get(f"{path}{'&' if '?' in path else '?'}limit={limit}" + (f"&nextToken={token}" if token else ""))
        found += answer.data
        token = answer.body.get("nextToken", "")
        if not answer.data or not token:
            return found


# --- Baskets ------------------------------------------------------------------------------------


def test_listed_basket_equals_the_basket_of_its_user(api: Api) -> None:
    api.place("shirt", 2, user="ada")
    api.place("song", 0, user="bob")
    assert api.get(BASKETS).body == {"data": [{"userId": user} | api.basket(user) for user in ("ada", "bob")]}


def test_baskets_are_filtered(api: Api, pass_time: PassTime) -> None:
    api.place("shirt", 1, user="ada")
    api.place("song", 1, user="bob")
    api.place("song", 0, user="cleo")
    api.start(user="bob")
    pass_time(timedelta(days=2), user="cleo")
    changed = api.basket("cleo")["lastChanged"]
    expires = api.basket("cleo")["expires"]
    for query, found in {
        "": ["ada", "bob", "cleo"],
        "userId=bob": ["bob"],
        "userId=unknown": [],
        "productId=song": ["bob", "cleo"],
        "productId=shirt&userId=bob": [],
        "hasCheckout=true": ["bob"],
        "hasCheckout=false": ["ada", "cleo"],
        f"changedFrom={changed}": ["ada", "bob", "cleo"],
        f"changedBefore={changed}": [],
        f"changedBefore={changed[:-1]}.999999Z": ["cleo"],
        f"expiresFrom={expires[:-1]}.999999Z": ["ada", "bob"],
        "expiresFrom=2020-02-29T00:00:00%2B02:00&expiresBefore=9998-01-01T00:00:00Z": ["ada", "bob", "cleo"],
    }.items():
        assert users(api.get(f"{BASKETS}?{query}")) == found, query


def test_basket_that_its_user_cannot_see_is_not_listed(api: Api, pass_time: PassTime) -> None:
    """Deleted, or expired but not swept. An active checkout keeps its basket."""
    for user in ("ada", "bob", "cleo", "dev"):
        api.place("song", 1, user=user)
    api.delete("/baskets/users/bob")
    api.start(user="dev")
    for user in ("cleo", "dev"):
        pass_time(timedelta(days=31), user=user)
    assert users(api.get(BASKETS)) == ["ada", "dev"]


# --- Sessions -----------------------------------------------------------------------------------


def test_listed_session_has_its_items_outcome_and_flags(api: Api, partner: Partner, pass_time: PassTime) -> None:
    api.place("shirt", 2)
    api.place("song", 1)
    order_no = api.start().data["orderNo"]
    pass_time(timedelta(days=2))
    assert expiry.sweep_sessions().expired == 1
    assert api.finish(True, order_no=order_no).status == 422
    (listed,) = api.get(SESSIONS).data
    flags = listed.pop("attention")
    assert [(flag["reason"], flag["settledAt"], flag["candidates"]) for flag in flags] == [("checkout_expired", None, None)]
    more = {"userId": "ada", "currency": "EUR", "fullPrice": 2099, "fullTax": None, "shippingCost": None}
    assert listed == more | api.session(order_no).data
    assert listed["items"][0] == {
        "productId": "shirt", "count": 2, "stocked": 2, "held": 2, "sold": 0, "released": 2, "short": 0, "ordered": 0,
        "reversed": 0,
    }  # fmt: skip


def test_flag_of_a_report_without_order_number_lists_candidates(api: Api) -> None:
    api.place("shirt", 2)
    order_no = api.start().data["orderNo"]
    finished_at = api.finish(False).data["lastChanged"]
    assert api.finish(True).refusal == (422, 422, "checkout_aborted")
    (listed,) = api.get(f"{SESSIONS}?needsAttention=true").data
    candidate = {"orderNo": order_no, "status": "ABORTED", "finishedAt": finished_at}
    assert [(flag["settledAt"], flag["candidates"]) for flag in listed["attention"]] == [(None, [candidate])]
    ordered_at = api.finish(True, order_no=order_no).data["lastChanged"]
    assert api.get(f"{SESSIONS}?needsAttention=true").data == []
    (listed,) = api.get(SESSIONS).data
    assert [(flag["settledAt"], flag["candidates"]) for flag in listed["attention"]] == [(ordered_at, [candidate])]


def test_sessions_are_filtered(api: Api, pass_time: PassTime) -> None:
    orders = {}
    for user in ("ada", "bob", "cleo"):
        api.place("shirt", 1, user=user)
        orders[user] = api.start(user=user).data["orderNo"]
    api.finish(True, user="ada")
    api.finish(False, user="bob")
    assert api.finish(True, user="bob").status == 422  # The partner aborted it, so a later order is flagged.
    pass_time(timedelta(days=2), user="ada")
    started = api.session(orders["ada"], user="ada").data["startedAt"]
    api.delete("/baskets/users/ada")
    for query, found in {
        "": ["ada", "bob", "cleo"],
        "status=ORDERED": ["ada"],
        "status=ABORTED": ["bob"],
        "status=ACTIVE": ["cleo"],
        "userId=bob": ["bob"],
        f"orderNo={orders['cleo'].lower()}": ["cleo"],
        f"orderNo={orders['cleo']}&userId=bob": [],
        "needsAttention=true": ["bob"],
        "needsAttention=false": ["ada", "cleo"],
        f"startedFrom={started[:-1]}.999999Z": ["bob", "cleo"],
        f"startedBefore={started[:-1]}.999999Z": ["ada"],
        "finishedFrom=2020-01-01T00:00:00Z": ["ada", "bob"],
        f"finishedBefore={started[:-1]}.999999Z&status=ORDERED": ["ada"],
    }.items():
        assert users(api.get(f"{SESSIONS}?{query}")) == found, query


# --- Prices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cart", "full_price", "currency"),
    [
        ({"shirt": 2, "song": 3}, 2297, "EUR"),
        ({"shirt": 51, "song": 3}, 297, "EUR"),  # Only what can be ordered is counted.
        ({"gift": 1}, None, None),
        ({"shirt": 1, "gift": 1}, None, None),
        ({"shirt": 1, "dollars": 1}, None, None),
        ({"free": 4}, 0, "EUR"),
    ],
)
def test_prices_need_known_prices_in_one_currency(
    api: Api, sells: Sells, cart: dict[str, int], full_price: int | None, currency: str | None
) -> None:
    sells("dollars", price=500, currency="USD")
    sells("free", price=0)
    for product, count in cart.items():
        api.place(product, count)
    started = api.start().data
    prices = {"fullPrice": full_price, "fullTax": None, "shippingCost": None, "currency": currency}
    assert {name: started[name] for name in prices} == prices
    (listed,) = api.get(SESSIONS).data
    assert {name: listed[name] for name in prices} == prices


# --- Pages --------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [BASKETS, SESSIONS])
def test_pages_show_every_row_once_while_rows_change(api: Api, path: str) -> None:
    names = [f"user-{n:02}" for n in range(10)]
    for user in names:
        api.place("song", 1, user=user)
        api.start(user=user)
    first = api.get(f"{path}?limit=4")
    assert users(first) == names[:4]
    # Rows that were shown and rows that were not change, and one is deleted.
    for user in (names[1], names[5]):
        api.finish(True, user=user)
        api.place("song", 5, user=user)
    api.finish(True, user=names[6])
    api.delete(f"/baskets/users/{names[6]}")
    second = api.get(f"{path}?limit=4&nextToken={first.body['nextToken']}")
    third = api.get(f"{path}?limit=4&nextToken={second.body['nextToken']}")
    left = [name for name in names[4:] if path == SESSIONS or name != names[6]]
    assert users(second) + users(third) == left
    assert "nextToken" not in third.body
    assert users(api.get(f"{path}?limit=1&nextToken={first.body['nextToken']}")) == names[4:5]


def test_last_page_has_no_token_even_if_full(api: Api) -> None:
    for n in range(4):
        api.place("song", user=f"user-{n}")
    assert set(api.get(f"{BASKETS}?limit=4").body) == {"data"}
    assert set(api.get(f"{BASKETS}?limit=3").body) == {"data", "nextToken"}
    assert len(pages(api, BASKETS, limit=1)) == 4


@pytest.mark.parametrize("path", LISTS)
def test_statement_count_does_not_depend_on_the_page(api: Api, path: str) -> None:
    """One row or many, the first page or the last."""

    def cost(query: str) -> int:
        # The test is one transaction, which would keep the feed from settling events.
        FeedState.objects.update(settled_id=F("seen_id"))
        with CaptureQueriesContext(connection) as captured:
            api.get(f"{path}?{query}")
        return len(captured)

    def one_more(user: str) -> None:
        for product in ("shirt", "song"):
            api.place(product, user=user)
        api.start(user=user)

    one_more("user-0")
    api.get(EVENTS)
    small = cost("")
    for n in range(1, 21):
        one_more(f"user-{n:02}")
    api.get(EVENTS)
    token = api.get(f"{path}?limit=15").body["nextToken"]
    assert cost("limit=15") == cost("") == small <= 6
    # Without a token, one more statement finds the beginning of the feed.
    assert cost(f"nextToken={token}") == small - (path == EVENTS)


# --- Refusals ----------------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0", {"limit"}),
        ("limit=201", {"limit"}),
        ("limit=-1", {"limit"}),
        ("limit=ten", {"limit"}),
        ("limit=1e2", {"limit"}),
        ("limit=%D9%A3", {"limit"}),
        ("limit=", {"limit"}),
        ("limit=1&limit=2", {"limit"}),
        ("nextToken=", {"nextToken"}),
        ("nextToken=abc", {"nextToken"}),
        ("nextToken=a:b:c", {"nextToken"}),
        ("nextToken=%00:%F0%9F%98%80:c", {"nextToken"}),
        ("userId=", {"userId"}),
        ("userId=a%00b", {"userId"}),
        ("userId=" + 256 * "a", {"userId"}),
        ("userId=a&userId=b&limit=0", {"userId", "limit"}),
    ],
)
def test_invalid_parameters_are_refused_by_name(api: Api, path: str, query: str, fields: set[str]) -> None:
    answer = api.get(f"{path}?{query}")
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), fields)


@pytest.mark.parametrize(
    ("path", "query"),
    [
        (BASKETS, "hasCheckout=1"),
        (BASKETS, "hasCheckout=True"),
        (BASKETS, "changedFrom=yesterday"),
        (BASKETS, "changedFrom=2026-01-31T12:00:00"),
        (BASKETS, "changedFrom=2026-02-30T12:00:00Z"),
        (BASKETS, "expiresBefore=0001-01-01T00:00:00%2B14:00"),
        (BASKETS, "expiresBefore=1769860800"),
        (BASKETS, "productId=%0A"),
        (SESSIONS, "status=ordered"),
        (SESSIONS, "status=PAID"),
        (SESSIONS, "needsAttention=yes"),
        (SESSIONS, "finishedFrom=2026-01-31"),
        (EVENTS, "kind=everything"),
    ],
)
def test_invalid_filter_is_refused(api: Api, path: str, query: str) -> None:
    answer = api.get(f"{path}?{query}")
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {query.partition("=")[0]})


@pytest.mark.parametrize(
    ("path", "name"),
    [
        *(
            (path, name)
            for path in LISTS
            for name in ("userid", "user_id", "limits", "nexttoken", "next_token", "a%00b", "%EF%BB%BFuserId", "")
        ),
        (BASKETS, "status"),
        (BASKETS, "kind"),
        (SESSIONS, "state"),
        (SESSIONS, "productId"),
        (SESSIONS, "kind"),
        (EVENTS, "kinds"),
        (EVENTS, "orderNo"),
    ],
)
def test_unknown_parameter_is_refused_by_name(api: Api, path: str, name: str) -> None:
    answer = api.get(f"{path}?{name}=x&limit=1&provider_id=netflix")
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.body["error"]["details"]["fields"] == {unquote(name): "Is not a parameter of this call."}


@pytest.mark.parametrize("path", LISTS)
def test_unknown_and_invalid_parameters_are_named_together(api: Api, path: str) -> None:
    answer = api.get(f"{path}?userid=a&userid=b&User=&limit=0&userId=ada")
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {"userid", "User", "limit"})


@pytest.mark.parametrize("path", LISTS)
def test_parameters_of_the_schema_are_accepted(api: Api, path: str) -> None:
    parameters = map(resolved, schema()["paths"][path]["get"]["parameters"])
    named = [parameter["name"] for parameter in parameters if parameter["in"] == "query"]
    assert {"limit", "nextToken", "userId", "provider_id"} <= set(named)
    given = {
        **dict.fromkeys(named, "2026-01-31T12:00:00Z"),
        "hasCheckout": "true",
        "needsAttention": "true",
        "status": "ORDERED",
        "kind": "repaired",
        "orderNo": "x",
        "productId": "x",
        "limit": "1",
        "wait": "1",
        "nextToken": "x",
        "provider_id": "netflix",
        "userId": "ada",
    }
    query = "&".join(f"{name}={given[name]}" for name in named)
    # Only the token is wrong, which is read after everything else was checked.
    assert api.get(f"{path}?{query}").fields == {"nextToken"}


@pytest.mark.parametrize("path", LISTS)
def test_token_works_only_for_its_partner_call_and_filters(api: Api, other_partner: Api, path: str) -> None:
    for n in range(3):
        api.place("song", user=f"user-{n}")
        other_partner.place("song", user=f"user-{n}")
        api.start(user=f"user-{n}")
        other_partner.start(user=f"user-{n}")
    token = api.get(f"{path}?limit=1").body["nextToken"]
    assert api.get(f"{path}?nextToken={token}").status == 200
    elsewhere = [other_path for other_path in LISTS if other_path != path]
    foreign = encrypt_token(decrypt_token(token, purpose=ENCRYPTION_PURPOSE), purpose="another purpose")
    forged = signing.dumps(json.loads(decrypt_token(token, purpose=ENCRYPTION_PURPOSE)), key="another secret", salt=ENCRYPTION_PURPOSE)
    for answer in (
        other_partner.get(f"{path}?nextToken={token}"),
        api.get(f"{path}?nextToken={token}&userId=user-2"),
        *(api.get(f"{wrong}?nextToken={token}") for wrong in elsewhere),
        api.get(f"{path}?nextToken={token[:-1]}"),
        api.get(f"{path}?nextToken={foreign}"),
        api.get(f"{path}?nextToken={forged}"),
    ):
        assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {"nextToken"})


# --- Tokens and ids ----------------------------------------------------------------------


@pytest.mark.parametrize("path", LISTS)
def test_token_reveals_neither_users_nor_the_number_of_events(api: Api, path: str) -> None:
    """It is encrypted, and its length does not depend on the position."""
    for user in ("ada@example.com", "bob"):
        api.place("song", user=user)
        api.start(user=user)
    token = api.get(f"{path}?limit=1").body["nextToken"]
    assert re.fullmatch(r"[A-Za-z0-9_-]{192}", token)
    raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    assert b"ada" not in raw
    assert b"2026" not in raw
    cursor = ListCursor(partner_id=1, call="events", filters={})
    positions = [[1, None, None], [10**18, 10**18, "2026-11-29T02:53:15.123456+00:00"]]
    assert [len(cursor.encrypt(position)) for position in positions] == [len(token)] * 2
    assert [cursor.decrypt(cursor.encrypt(position)) for position in positions] == positions
    assert cursor.decrypt(cursor.encrypt(255 * "\U0001f600")) == 255 * "\U0001f600"
    assert len(cursor.encrypt(255 * "\U0001f600")) < 2000


@pytest.mark.parametrize("path", LISTS)
def test_token_in_the_former_format_is_accepted_and_replaced(api: Api, path: str) -> None:
    """Consumers store tokens of the feed for any time. Former tokens were signed, but not encrypted."""
    for user in ("ada", "bob", "cleo", "dev"):
        api.place("song", user=user)
        api.start(user=user)
    first = api.get(f"{path}?limit=1")
    former = signing.dumps(json.loads(decrypt_token(first.body["nextToken"], purpose=ENCRYPTION_PURPOSE)), salt=ENCRYPTION_PURPOSE)
    second = api.get(f"{path}?limit=1&nextToken={former}")
    assert second.body == api.get(f"{path}?limit=1&nextToken={first.body['nextToken']}").body
    assert ":" not in second.body["nextToken"]
    assert api.get(f"{path}?limit=1&nextToken={former}&userId=bob").fields == {"nextToken"}
    assert api.get(f"{path}?limit=1&nextToken={former[:-1]}").fields == {"nextToken"}


def test_event_id_does_not_depend_on_other_events(api: Api, other_partner: Api) -> None:
    """So a restored backup gives it the same id, and ids reveal no number of events."""
    for user, caller in (("ada", api), ("eve", other_partner), ("ada", api)):
        caller.place("song", 2 if user == "eve" else 1, user=user)
        caller.place("shirt", 1, user=user)
    shown = api.get(EVENTS).data
    assert [event["number"] for event in shown] == [1, 2]
    events = Event.objects.filter(basket__user_id="ada").order_by("number")
    identities = [f"{event.basket_id} {event.number} {event.at.timestamp():.6f}" for event in events]
    assert [event["id"] for event in shown] == [f"evt-{hashlib.sha256(identity.encode()).hexdigest()[:32]}" for identity in identities]
    assert api.get(f"{EVENTS}?limit=1").data + api.get(f"{EVENTS}?kind=item_placed").data == [shown[0], *shown]


def test_event_with_a_former_id_keeps_it(api: Api) -> None:
    api.place("song")
    api.get(EVENTS)
    FeedPosition.objects.update(public_id=None)  # The migration leaves events with positions in this state.
    api.place("shirt")
    first, second = api.get(EVENTS).data
    assert first["id"] == f"evt-{Event.objects.get(number=1).pk}"
    assert re.fullmatch("evt-[0-9a-f]{32}", second["id"])


@pytest.mark.parametrize("path", LISTS)
def test_client_key_gets_no_list(api: Api, app: Api, path: str, unchanged: Unchanged) -> None:
    """The kind of the key is checked after key and token, and before `Accept` and the query."""
    api.place("song")
    unchanged()
    assert app.get(path).refusal == (403, 403, "server_key_required")
    assert app.get(f"{path}?limit=0", Accept="text/html").refusal == (403, 403, "server_key_required")
    assert app.get(path, Authorization="Bearer nonsense").refusal == (401, 2002, "token_invalid")
    assert api.get(f"{path}?limit=0", Accept="text/html").refusal == (406, 406, "not_acceptable")


@pytest.mark.parametrize("path", LISTS)
def test_list_shows_nothing_of_another_partner(api: Api, other_partner: Api, issue: Issue, path: str) -> None:
    api.place("shirt", user="ada")
    order_no = api.start(user="ada").data["orderNo"]
    assert other_partner.get(path).data == []
    assert other_partner.get(f"{path}?userId=ada").data == []
    assert other_partner.get(f"{SESSIONS}?orderNo={order_no}").data == []
    assert api.get(path).data != []


@pytest.mark.parametrize("path", [BASKETS, SESSIONS])
def test_list_changes_nothing(api: Api, path: str, stored_rows: Stored) -> None:
    api.place("shirt")
    api.start()
    before = stored_rows()
    api.get(path)
    assert stored_rows() == before


# --- The feed -----------------------------------------------------------------------------------


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


def read_only_error() -> int:
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
