"""Reads and renders one checkout session: each item, and the outcome of its pieces. Changes nothing."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import F, OuterRef, Subquery, Sum

from baskets.api.serializers.representations import render_variant
from baskets.domain.timestamps import format_timestamp
from baskets.models import CheckoutItem, CheckoutSession, StockReservation

Status = StockReservation.Status


def _reserved_pieces(status: str) -> Subquery:
    """Count the pieces of an item's reservations that have this status."""
    same = {name: OuterRef(name) for name in ("basket_id", "session_id", "product_id")}
    of_item = StockReservation.objects.filter(**same, status=status)
    return Subquery(of_item.order_by().values("product_id").annotate(sum=Sum("pieces")).values("sum"))


# The columns of the session come with each item, so that one statement reads both at the same moment.
SESSION_ANNOTATIONS = {
    **{
        name: F(f"session__{name}")
        for name in ("order_no", "status", "started_at", "expires_at", "finished_at", "reversed_at", "late", "test_mode")
    },
    "variant": F("product__variant"),
    "main_product_id": F("product__main_product_id"),
    "sold": _reserved_pieces(Status.SOLD),
    "released": _reserved_pieces(Status.RELEASED),
    "short": _reserved_pieces(Status.SHORT),
}


def read_session(*, basket_id: UUID, order_no: str) -> dict[str, Any] | None:
    """Read and render a session of this basket; None if the basket has no session with this order number.

    One statement reads the items, and the session with them: every session has items.

    :returns: `responses.Session`.
    """
    rows = list(
        CheckoutItem.objects.filter(basket_id=basket_id, session__basket_id=basket_id, session__order_no=order_no)
        .order_by("position", "product_id")
        .values("product_id", "count", "stocked", "released_at", **SESSION_ANNOTATIONS)
    )
    if not rows:
        return None
    return render_session(rows[0], rows)


def render_session(session: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Render a session with its items.

    :param session: any of its items.
    :param items: rows with `SESSION_ANNOTATIONS`.
    :returns: `responses.Session`.
    """
    return {
        "orderNo": session["order_no"],
        "status": session["status"],
        "startedAt": format_timestamp(session["started_at"]),
        "expires": format_timestamp(session["expires_at"]),
        "finishedAt": format_timestamp(session["finished_at"]),
        "reversedAt": format_timestamp(session["reversed_at"]),
        "late": session["late"],
        "testMode": session["test_mode"],
        "items": [_render_item(item) for item in items],
    }


def _render_item(item: Mapping[str, Any]) -> dict[str, Any]:
    count, stocked = item["count"], item["stocked"]
    ordered = count if item["status"] == CheckoutSession.Status.ORDERED and (stocked is None or stocked > 0) else 0
    return {
        "productId": item["product_id"],
        "count": count,
        **render_variant(item["variant"], item["main_product_id"]),
        "stocked": stocked,
        "held": None if stocked is None else count if item["released_at"] else max(0, stocked),
        "sold": item["sold"] or 0,
        "released": item["released"] or 0,
        "short": item["short"] or 0,
        "ordered": ordered,
        "reversed": ordered if item["reversed_at"] else 0,
    }
