"""Signs the tokens of guests, and lists each as a device of its basket. Bearer tokens are verified in `bearer_tokens`."""

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

import jwt

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.access.signing_keys import ALGORITHM, current_signer
from baskets.models.basket_snapshot import Owner

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


def issue_guest_token(*, owner: Owner, transferred: bool = False, at: datetime) -> IssuedToken:
    """Sign a token with which its holder may handle one basket of a partner, as a guest, and list it as a device.

    The basket may be any of the partner's: a guest's own, or one that was transferred. Must be the last step of its transaction:
    the token cannot be taken back. Writes the row of the device, and locks nothing.

    :param owner: the owner of the basket, which must have a row.
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
    """Return the `aud` of the tokens for baskets of a partner."""
    return f"urn:baskets:partner:{partner_id}"
