"""What is stored of one user id at all partners: finds it, names what is still open, and exports it. `erasure` erases it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction

from baskets.domain import audit_log, comfort
from baskets.domain.actors import Actor
from baskets.domain.timestamps import format_timestamp
from baskets.domain.validation import require_reason
from baskets.encryption import UnreadableSecret
from baskets.models import (
    Attention,
    Basket,
    BasketItem,
    CheckoutItem,
    CheckoutSession,
    Comfort,
    DeskEntry,
    Event,
    GuestToken,
    IdempotencyRecord,
    Partner,
    Transfer,
)
from baskets.models.basket_snapshot import Owner

NOT_EXPORTED = "stored; not exported, because a reader could pay with it"
UNREADABLE = "stored, and cannot be decrypted"


@dataclass(frozen=True, kw_only=True)
class StoredData:
    """What is stored in one basket and beside it. Comfort settings and responses are stored of users without a basket as well.

    :param basket: an unsaved one where there is no basket.
    :param counts: the number of rows of each kind.
    :param is_in_checkout: whether a checkout is active, which must end before an erasure.
    :param open_flags: the number of open attention flags: the customer may have paid.
    """

    basket: Basket
    counts: Counter[str] = field(default_factory=Counter)
    is_in_checkout: bool = False
    open_flags: int = 0

    @property
    def has_basket(self) -> bool:
        """Return whether there is a basket."""
        return not self.basket._state.adding  # noqa: SLF001 (documented, underscore and all)


def find_stored_data(user_id: str) -> list[StoredData]:
    """Find what is stored of a user id, by partner, in a constant number of statements.

    Two partners may call different people by the same id.
    """
    partners = Partner.objects.all() if user_id else Partner.objects.none()
    keys = {Owner(partner_id=partner.pk, user_id=user_id).basket_id: partner for partner in partners}
    baskets = Basket.objects.select_related("partner").in_bulk(keys)
    found: dict[UUID, StoredData] = {pk: StoredData(basket=basket) for pk, basket in baskets.items()}
    for name, rows in _rows_of(keys).items():
        for pk in rows:
            absent = Basket(pk=pk, partner=keys[pk], user_id=user_id)
            found.setdefault(pk, StoredData(basket=absent)).counts[name] += 1
    for pk in Attention.objects.open().filter(basket_id__in=found).values_list("basket_id", flat=True):
        found[pk] = replace(found[pk], open_flags=found[pk].open_flags + 1)
    for pk in CheckoutSession.objects.active().filter(basket_id__in=found).values_list("basket_id", flat=True):
        found[pk] = replace(found[pk], is_in_checkout=True)
    return sorted(found.values(), key=lambda stored: stored.basket.partner.name)


def _rows_of(keys: Iterable[UUID]) -> dict[str, Iterable[UUID]]:
    """Read the keys of the baskets to which rows belong, by kind of row."""
    chosen = list(keys)
    of_basket: dict[str, Any] = {
        "items": BasketItem,
        "checkouts": CheckoutSession,
        "events": Event,
        "devices": GuestToken,
        "transfers": Transfer,
        "stored responses": IdempotencyRecord,
        "comfort settings": Comfort,
    }
    return {name: model.objects.filter(basket_id__in=chosen).values_list("basket_id", flat=True) for name, model in of_basket.items()}


@transaction.atomic(savepoint=False)
def export_user(*, baskets: Sequence[Basket], reason: str, actor: Actor) -> dict[str, Any]:
    """Export what is stored of a user in these baskets, and record the export for each of them. Locks nothing.

    :returns: a document that JSON can express. Texts of staff are in it; secrets are not: digests of tokens, and the payment token.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    """
    require_reason(reason)
    document = {"partners": [_document(basket) for basket in baskets]}
    for basket in baskets:
        audit_log.record(
            kind=DeskEntry.Kind.TAKEN_OUT, about="basket", subject=str(basket.pk), partner_id=basket.partner_id, reason=reason, actor=actor
        )
    return document


def _document(basket: Basket) -> dict[str, Any]:
    """Describe one basket and everything that belongs to it."""
    lists: dict[str, list[dict[str, Any]]] = {name: [] for name in BasketItem.List.values}
    for item in basket.items.order_by("list", "position"):
        lists[item.list].append({"productId": item.product_id, "count": item.count})
    items: dict[int, list[dict[str, Any]]] = {}
    for line in CheckoutItem.objects.filter(session__basket=basket).order_by("session_id", "position"):
        items.setdefault(line.session_id, []).append(_members(line, "product_id", "count", "price", "currency"))
    journal = DeskEntry.objects.filter(about="basket", subject=str(basket.pk)).order_by("pk")
    return {
        "partner": basket.partner.name,
        "userId": basket.user_id,
        "isGuest": basket.guest,
        **_members(basket, "created_at", "last_changed_at", "expires_at", "hidden_at"),
        **lists,
        "checkouts": [
            {
                **_members(session, "order_no", "status", "started_at", "expires_at", "finished_at"),
                **_members(session, "language", "country", "full_price", "currency"),
                "isTest": session.test_mode,
                "isReversed": session.reversed_at is not None,
                "items": items.get(session.pk, []),
            }
            for session in basket.sessions.order_by("pk")
        ],
        "timeline": [
            _members(event, "number", "kind", "at", "actor_kind", "request_id", "tracking", "data")
            for event in basket.timeline.order_by("number")
        ],
        "flags": [
            {**_members(flag, "reason", "created_at", "settled_at"), "comment": flag.note or None}
            for flag in basket.attention.order_by("pk")
        ],
        "comfortSettings": _comfort(basket),
        "devices": [_members(token, "created_at", "expires_at", "revoked_at") for token in basket.guest_tokens.order_by("created_at")],
        "transfers": [_members(transfer, "created_at", "expires_at", "redeemed_at") for transfer in basket.transfers.order_by("pk")],
        "storedResponses": [
            _members(record, "created_at", "status", "body")
            for record in IdempotencyRecord.objects.filter(basket_id=basket.pk).order_by("created_at")
        ],
        "journal": [{**_members(entry, "kind", "at"), "reason": entry.note or None} for entry in journal],
    }


def _comfort(basket: Basket) -> dict[str, Any] | None:
    """Describe the comfort settings; None if there are none."""
    stored = Comfort.objects.filter(pk=basket.pk).first()
    if stored is None:
        return None
    try:
        customer_id = comfort.read_comfort(owner=Owner(partner_id=basket.partner_id, user_id=basket.user_id)).customer_id
    except UnreadableSecret:
        customer_id = UNREADABLE
    token = None if stored.payment_token is None else NOT_EXPORTED
    return {"customerId": customer_id, "paymentToken": token, **_members(stored, "consented_at", "changed_at")}


def _members(record: Any, *names: str) -> dict[str, Any]:
    """Write members of a record under the names of the API: times in its format, an empty text as None."""
    values = ((name, getattr(record, name)) for name in names)
    return {
        _camel_case(name): format_timestamp(value) if isinstance(value, datetime) else None if value == "" else value
        for name, value in values
    }


def _camel_case(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)
