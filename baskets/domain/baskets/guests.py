"""Guests: users whom a partner does not know, with a basket of 30 days and a token that we sign ourselves."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import jwt
from django.db import transaction

from baskets import conf
from baskets.db.pipeline import Statement, execute
from baskets.domain.access.signing_keys import ALGORITHM, current_signer
from baskets.domain.actors import Actor
from baskets.domain.baskets import lists
from baskets.domain.baskets.store import create_and_lock, write_lists
from baskets.domain.baskets.timeline import lines_as_json, record_event
from baskets.domain.checkout.purchase_limits import ClientLimits
from baskets.domain.errors import ProductNotFound
from baskets.models import Event, Product
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot, Owner

ISSUER = "urn:baskets:guests"
INSERT_DEVICE = Statement(
    "insert_device",
    """
INSERT INTO baskets_guesttoken (jti, basket_id, transferred, created_at, expires_at, revoked_by) VALUES (%s, %s, %s, %s, %s, '')
""",
)


@dataclass(frozen=True, kw_only=True)
class IssuedToken:
    """A token that lets its holder handle one basket of one partner."""

    text: str
    expires_at: datetime


def new_guest(*, partner_id: int) -> Owner:
    """Draw the id of a guest: 128 random bits, so it names nobody else and cannot be guessed."""
    return Owner(partner_id=partner_id, user_id=f"guest-{secrets.token_hex(16)}")


@transaction.atomic(savepoint=False)
def create_guest_basket(*, owner: Owner, counts: Mapping[str, int], limits: ClientLimits | None = None, actor: Actor) -> BasketSnapshot:
    """Create the basket of a guest, with products in its lists as `place_item` puts them: all of them, or nothing is done.

    It expires a basket's lifetime after now, whatever happens to it. Locks the basket.
    Source: `createguestbasket` of the published API.

    :param owner: a guest that was just drawn.
    :param counts: pieces by product, 0 for the saved list, in the order in which the lists show them.
    :param limits: what a client key counts against; None for a server key.
    :raises Throttled: a limit of the client key or its source is reached.
    :raises LimitBlockUsedUp: this process must take counts of a limit first.
    :raises ProductNotFound: one of them is not in the catalogue, or not listed.
    :raises CartFull: there are more products than the cart takes.
    :raises SavedFull: there are more products than the saved list takes.
    """
    if limits:
        limits.count(guests=1)
    before = create_and_lock(owner, guest=True)
    known = Product.objects.filter(listed=True).in_bulk(list(counts))
    after = before
    for product_id, count in counts.items():
        product = known.get(product_id)
        if product is None:
            raise ProductNotFound
        line = BasketLine(product_id=product_id, count=count, position=0, variant=product.variant, main_product_id=product.main_product_id)
        after = lists.with_placed(after, line)
    after = write_lists(before=before, after=after)
    record_event(
        contents=after,
        kind=Event.Kind.GUEST_CREATED,
        actor=actor,
        data={"cart": lines_as_json(after.cart), "saved": lines_as_json(after.saved)},
    )
    return after


def issue_guest_token(*, owner: Owner, transferred: bool = False, at: datetime) -> IssuedToken:
    """Sign a token with which its holder may handle one basket of a partner, as a guest, and list it as a device.

    The basket may be any of the partner's: a guest's own, or one that was transferred. Must be called inside the
    transaction that it belongs to, as its last step: it asks for nothing but the key.

    :param owner: whose basket; its row is there.
    :param transferred: whether the device takes the basket over from another one.
    :param at: the database's time, from which the token lives.
    :raises SigningKeyUnreadable: the key that signs cannot be read.
    """
    begins = at.replace(microsecond=0)
    expires_at = begins + conf.guest_token_lifetime()
    signer = current_signer()
    jti = uuid4()
    claims = {
        "iss": ISSUER,
        "aud": token_audience(owner.partner_id),
        "sub": owner.user_id,
        "jti": str(jti),
        "iat": int(begins.timestamp()),
        "exp": int(expires_at.timestamp()),
        "guest": True,
        "transferred": transferred,
    }
    execute(INSERT_DEVICE, [jti, owner.basket_id, transferred, at, expires_at])
    text = jwt.encode(claims, signer.private_key, algorithm=ALGORITHM, headers={"kid": signer.kid})
    return IssuedToken(text=text, expires_at=expires_at)


def token_audience(partner_id: int) -> str:
    """Name a partner as the audience of our tokens: they are good for its baskets and no others."""
    return f"urn:baskets:partner:{partner_id}"
