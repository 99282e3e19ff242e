"""The back-end lists: filters, pages that stay correct while rows change, and a cost that does not depend on the page."""

from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from baskets.domain.checkout import expiry
from baskets.models import FeedState, Partner
from tests.api.conftest import Api, Issue, PassTime, Sells, Stored, Unchanged
from tests.api.lists.reading import BASKETS, EVENTS, LISTS, SESSIONS, pages, users

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


# --- Other callers -----------------------------------------------------------------------------


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
