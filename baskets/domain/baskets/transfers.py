"""Transfers a basket to another device: an offer is valid for one minute and redeemed once. The lists do not change.

The API decides who may offer a basket, and which token the other device gets.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain import slots
from baskets.domain.access.client_limits import ClientLimits
from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, lock_basket, write_lists
from baskets.domain.baskets.timeline import record_event
from baskets.domain.errors import BasketNotFound
from baskets.models import Basket, Event, GuestToken, Transfer
from baskets.models.basket_snapshot import BasketSnapshot, Owner, read_basket

TOKEN_LIFETIME = timedelta(minutes=1)
KEEP_USED_FOR = timedelta(days=1)
TOKEN_LENGTH = 43

# PostgreSQL checks the condition again under the lock of the row, so of two concurrent calls one redeems the token.
REDEEM = Statement(
    "redeem",
    """
UPDATE baskets_transfer SET redeemed_at = %s
WHERE digest = %s AND redeemed_at IS NULL AND expires_at > %s AND created_at <= %s
RETURNING basket_id
""",
)
IS_OPEN = Statement(
    "is_open",
    """
SELECT FROM baskets_transfer WHERE digest = %s AND redeemed_at IS NULL AND expires_at > statement_timestamp()
""",
)


class TransferNotFound(Exception):
    """The token is unknown, used or expired, or its basket is gone. The refusal does not reveal which."""


@dataclass(frozen=True, kw_only=True)
class TransferOffer:
    """An offer to transfer a basket. The token exists only here; the database stores its digest."""

    token: str
    expires_at: datetime


@transaction.atomic(savepoint=False)
def offer_transfer(*, owner: Owner, actor: Actor) -> TransferOffer:
    """Offer the user's basket to the first device that presents the token of this offer.

    Locks the basket. Source: `transferbasket` of the published API; ADR 22.

    :raises BasketNotFound: there is none, or it has expired.
    """
    snapshot = lock_and_read(owner)
    if snapshot is None or not snapshot.is_open:
        raise BasketNotFound
    # Expired rows add nothing to what the timeline records.
    Transfer.objects.filter(basket_id=snapshot.basket_id, expires_at__lt=snapshot.at - KEEP_USED_FOR).delete()
    GuestToken.objects.filter(basket_id=snapshot.basket_id, expires_at__lt=snapshot.at - KEEP_USED_FOR).delete()
    # The proxy sends the other device to the cell of the token.
    token = slots.generate_in_this_cell(lambda: secrets.token_urlsafe(32), partner_id=owner.partner_id)
    expires_at = snapshot.at + TOKEN_LIFETIME
    fresh = Transfer(digest=token_digest(token), basket_id=snapshot.basket_id, created_at=snapshot.at, expires_at=expires_at)
    fresh.save(force_insert=True)
    _record(snapshot, Event.Kind.TRANSFER_OFFERED, actor)
    return TransferOffer(token=token, expires_at=expires_at)


@dataclass(frozen=True, kw_only=True)
class RedeemedTransfer:
    """A transferred basket and its owner."""

    owner: Owner
    snapshot: BasketSnapshot


@transaction.atomic(savepoint=False)
def redeem_transfer(*, partner_id: int, token: str, limits: ClientLimits | None = None, actor: Actor) -> RedeemedTransfer:
    """Redeem a token, and return its basket.

    Locks the basket, then the transfer. Source: `createguestbasket` of the published API; ADR 22.

    :param partner_id: the partner of the calling key; a basket never leaves its partner.
    :param limits: the limits of the calling client key; None for a server key. A device counts like a guest.
    :raises Throttled: a limit of the client key or its source is reached.
    :raises LimitBlockUsedUp: this process must fetch a block of counts first.
    :raises TransferNotFound: the token is unknown, used or expired, or its basket is gone.
    """
    if limits:
        limits.count(guests=1)
    digest = token_digest(token)
    basket = Basket.objects.filter(transfers__digest=digest, partner_id=partner_id).first()
    if basket is None or not lock_basket(basket.pk):
        raise TransferNotFound
    snapshot = read_basket(basket.pk)
    if snapshot is None or not snapshot.is_open:
        raise TransferNotFound
    if execute(REDEEM, [snapshot.at, digest, snapshot.at, snapshot.at]).fetchone() is None:
        raise TransferNotFound
    _record(snapshot, Event.Kind.TRANSFER_REDEEMED, actor)
    return RedeemedTransfer(owner=Owner(partner_id=partner_id, user_id=basket.user_id), snapshot=snapshot)


def is_redeemable(token: str) -> bool:
    """Return whether a token can still be redeemed."""
    return execute(IS_OPEN, [token_digest(token)]).fetchone() is not None


def token_digest(token: str) -> bytes:
    """Compute the digest that the database stores of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _record(snapshot: BasketSnapshot, kind: Event.Kind, actor: Actor) -> None:
    """Add an event to the timeline without changing the lists."""
    record_event(snapshot=write_lists(before=snapshot, after=snapshot), kind=kind, actor=actor, data={})
