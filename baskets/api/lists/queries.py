"""One page of each list for back ends, read in a constant number of statements. What may be asked is in `filters`."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import F, Q, QuerySet

from baskets.api.serializers.representations import empty_basket, render_basket, render_time
from baskets.api.serializers.session_detail import SESSION_ANNOTATIONS, render_session
from baskets.models import Attention, Basket, CheckoutItem, CheckoutSession
from baskets.models.basket_snapshot import read_several

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
LIMIT_RULE = f"Must be a whole number from 1 to {MAX_LIMIT}."


def partner_baskets(partner_id: int) -> QuerySet[Basket]:
    """The baskets that users of this partner see."""
    return Basket.objects.present().filter(partner_id=partner_id)


def basket_page(rows: QuerySet[Basket], *, after: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
    """Show baskets in the order of their user ids, which no change moves, and the user to go on after if there are more."""
    if after is not None:
        rows = rows.filter(user_id__gt=after)
    found = list(rows.order_by("user_id").values_list("pk", "user_id")[: limit + 1])
    page, more = found[:limit], found[limit:]
    contents = read_several([pk for pk, _ in page])
    shown = [{"userId": user_id} | (render_basket(contents[pk]) if pk in contents else empty_basket()) for pk, user_id in page]
    return shown, page[-1][1] if more else None


def partner_sessions(partner_id: int) -> QuerySet[CheckoutSession]:
    """All sessions of this partner, whatever has become of their baskets since."""
    return CheckoutSession.objects.filter(partner_id=partner_id)


def session_page(rows: QuerySet[CheckoutSession], *, after: Sequence[Any] | None, limit: int) -> tuple[list[dict[str, Any]], Any]:
    """Show sessions in the order of their starts, which no change moves, and the one to go on after if there are more."""
    if after is not None:
        started_at, pk = datetime.fromisoformat(after[0]), after[1]
        # The first half finds the place in the index; the second passes by what was shown of the same moment.
        rows = rows.filter(Q(started_at__gt=started_at) | Q(pk__gt=pk), started_at__gte=started_at)
    found = list(rows.order_by("started_at", "pk").values_list("pk", "started_at")[: limit + 1])
    page, more = found[:limit], found[limit:]
    keys = [pk for pk, _ in page]
    items: dict[int, list[Any]] = defaultdict(list)
    matters: dict[int, list[Any]] = defaultdict(list)
    of_page = CheckoutItem.objects.filter(session_id__in=keys).order_by("position", "product_id")
    for item in of_page.values("session_id", "product_id", "count", "stocked", "released_at", **LIST_ANNOTATIONS, **SESSION_ANNOTATIONS):
        items[item["session_id"]].append(item)
    flags = Attention.objects.filter(session_id__in=keys).order_by("pk")
    for matter in flags.values("session_id", "reason", "created_at", "settled_at", "candidates"):
        matters[matter["session_id"]].append(_render_attention_flag(matter))
    shown = [
        _render_list_fields(items[pk][0]) | render_session(items[pk][0], items[pk]) | {"attention": matters[pk]} for pk in keys if items[pk]
    ]
    return shown, [page[-1][1].isoformat(), page[-1][0]] if more else None


LIST_ANNOTATIONS = {
    "user_id": F("session__basket__user_id"),
    **{name: F(f"session__{name}") for name in ("full_price", "full_tax", "shipping_cost")},
    "paid_in": F("session__currency"),
}


def _render_list_fields(session: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "userId": session["user_id"],
        "currency": session["paid_in"] or None,
        "fullPrice": session["full_price"],
        "fullTax": session["full_tax"],
        "shippingCost": session["shipping_cost"],
    }


def _render_attention_flag(matter: Mapping[str, Any]) -> dict[str, Any]:
    settled_at = matter["settled_at"]
    return {
        "reason": matter["reason"],
        "createdAt": render_time(matter["created_at"]),
        "settledAt": None if settled_at is None else render_time(settled_at),
        "candidates": matter["candidates"],
    }
