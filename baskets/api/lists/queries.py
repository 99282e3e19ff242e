"""Reads one page of baskets or checkouts in a constant number of statements. `filters` narrows the rows, `pagination` checks the query."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet

from baskets.api.lists.pagination import ListRequest, Page
from baskets.api.serializers.representations import render_basket
from baskets.api.serializers.session_detail import SESSION_ANNOTATIONS, render_session
from baskets.domain.timestamps import format_timestamp
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession
from baskets.models.basket_snapshot import read_baskets

# What a list shows of a session beside its detail.
LIST_ANNOTATIONS = {
    "user_id": F("session__basket__user_id"),
    **{name: F(f"session__{name}") for name in ("full_price", "full_tax", "shipping_cost")},
    # `currency` is a column of the item.
    "session_currency": F("session__currency"),
}


def partner_baskets(partner_id: int) -> QuerySet[Basket]:
    """Return the baskets that users of a partner can see."""
    return Basket.objects.open().filter(partner_id=partner_id)


def basket_page(listing: ListRequest) -> Page:
    """Read baskets in the order of their user ids. The position is a user id."""
    rows = listing.rows
    if listing.after is not None:
        rows = rows.filter(user_id__gt=listing.after)
    found = list(rows.order_by("user_id").values_list("pk", "user_id")[: listing.limit + 1])
    shown, has_more = found[: listing.limit], len(found) > listing.limit
    snapshots = read_baskets([pk for pk, _ in shown])
    items = [{"userId": user_id} | render_basket(snapshots.get(pk)) for pk, user_id in shown]
    return Page(items=items, last=shown[-1][1] if has_more else None)


def partner_sessions(partner_id: int) -> QuerySet[CheckoutSession]:
    """Return all sessions of a partner, those of deleted baskets included."""
    return CheckoutSession.objects.filter(partner_id=partner_id)


def session_page(listing: ListRequest) -> Page:
    """Read sessions in the order of their starts. The position is a start in ISO 8601 and a primary key."""
    rows = listing.rows
    if listing.after is not None:
        started_at, pk = datetime.fromisoformat(listing.after[0]), listing.after[1]
        # The last condition finds the place in the index; the first skips what was shown of the same moment.
        rows = rows.filter(Q(started_at__gt=started_at) | Q(pk__gt=pk), started_at__gte=started_at)
    found = list(rows.order_by("started_at", "pk").values_list("pk", "started_at")[: listing.limit + 1])
    shown, has_more = found[: listing.limit], len(found) > listing.limit
    keys = [pk for pk, _ in shown]
    items: dict[int, list[Any]] = defaultdict(list)
    flags: dict[int, list[dict[str, Any]]] = defaultdict(list)
    item_rows = CheckoutItem.objects.filter(session_id__in=keys).order_by("position", "product_id")
    for item in item_rows.values("session_id", "product_id", "count", "stocked", "released_at", **LIST_ANNOTATIONS, **SESSION_ANNOTATIONS):
        items[item["session_id"]].append(item)
    flag_rows = Attention.objects.filter(session_id__in=keys).order_by("pk")
    for flag in flag_rows.values("session_id", "reason", "created_at", "settled_at", "candidates"):
        flags[flag["session_id"]].append(_render_attention_flag(flag))
    rendered = [
        _render_list_fields(items[pk][0]) | render_session(items[pk][0], items[pk]) | {"attention": flags[pk]} for pk in keys if items[pk]
    ]
    return Page(items=rendered, last=[shown[-1][1].isoformat(), shown[-1][0]] if has_more else None)


def _render_list_fields(session: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "userId": session["user_id"],
        "currency": session["session_currency"] or None,
        "fullPrice": session["full_price"],
        "fullTax": session["full_tax"],
        "shippingCost": session["shipping_cost"],
    }


def _render_attention_flag(flag: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "reason": flag["reason"],
        "createdAt": format_timestamp(flag["created_at"]),
        "settledAt": format_timestamp(flag["settled_at"]),
        "candidates": flag["candidates"],
    }
