"""What became of one checkout: read in one statement, so that all its parts are of the same moment. Changes nothing."""

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import F, OuterRef, Subquery, Sum

from baskets.domain.timestamps import format_timestamp
from baskets.models import CheckoutItem, CheckoutSession, StockReservation

Status = StockReservation.Status


def _reserved_pieces(status: str) -> Subquery:
    """Count the pieces of an item's reservations that have this status."""
    of_item = StockReservation.objects.filter(session_id=OuterRef("session_id"), product_id=OuterRef("product_id"), status=status)
    return Subquery(of_item.order_by().values("product_id").annotate(sum=Sum("pieces")).values("sum"))


# What is asked of an item beside its own columns: its session too, so that both are of the same moment.
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
    """Show a session of this basket with its items, or None if the basket has none of that number.

    A session without items does not exist, so the items are asked, and bring their session along.
    """
    rows = list(
        CheckoutItem.objects.filter(basket_id=basket_id, session__basket_id=basket_id, session__order_no=order_no)
        .order_by("position", "product_id")
        .values(
            "product_id",
            "count",
            "stocked",
            "released_at",
            **SESSION_ANNOTATIONS,
        )
    )
    if not rows:
        return None
    return render_session(rows[0], rows)


def render_session(session: Mapping[str, Any], items: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Show a session with its items."""
    return {
        "orderNo": session["order_no"],
        "status": session["status"],
        "startedAt": format_timestamp(session["started_at"]),
        "expires": format_timestamp(session["expires_at"]),
        "finishedAt": format_timestamp(session["finished_at"]),
        "reversedAt": format_timestamp(session["reversed_at"]),
        "late": session["late"],
        "testMode": session["test_mode"],
        "items": [_render_item(row) for row in items],
    }


def _render_item(row: Mapping[str, Any]) -> dict[str, Any]:
    shown = {"productId": row["product_id"], "count": row["count"]}
    if row["variant"]:
        shown["variant"] = row["variant"]
    if row["main_product_id"]:
        shown["mainProductIdentifier"] = row["main_product_id"]
    stocked = row["stocked"]
    ordered = row["count"] if row["status"] == CheckoutSession.Status.ORDERED and (stocked is None or stocked > 0) else 0
    return shown | {
        "stocked": stocked,
        "held": None if stocked is None else row["count"] if row["released_at"] else max(0, stocked),
        "sold": row["sold"] or 0,
        "released": row["released"] or 0,
        "short": row["short"] or 0,
        "ordered": ordered,
        "reversed": ordered if row["reversed_at"] else 0,
    }
