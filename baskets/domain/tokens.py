"""Bearer tokens: whose signature is trusted, and which claims a token must have. How a refusal looks is the API's business.

PyJWT checks form, signature, issuer and audience. Times are compared here, because they are told by the database's
clock, as every other time of the service. Nothing that a token says about its own key is followed but `kid` and `alg`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt
from django.db.models.functions import Now

from baskets.database import reading
from baskets.domain import guests, published_keys
from baskets.domain.keysets import PublicKey, parse_jwk, parse_jwks
from baskets.models import SigningKey, TokenIssuer

# A token carries a name and some dates. What is longer is no token, and is not even looked into.
LONGEST = 8192
LEEWAY_SECONDS = 30
LONGEST_SUBJECT = 255
# Far beyond any date; what is no number at all is not below it either.
LAST_SECOND = 1 << 40


class TokenInvalid(Exception):
    """The token is not one that is trusted here."""


class TokenExpired(Exception):
    """The token was good once, and is over."""


@dataclass(frozen=True, kw_only=True)
class BearerUser:
    """The user whom a good token names.

    :param guest: whether the token is one of ours, for a guest; a partner's own users are known to it.
    """

    user_id: str
    issuer: str
    guest: bool


@dataclass(frozen=True, kw_only=True)
class Trust:
    """One way in which a token can be good.

    :param keys: those that fit what the token says of its key.
    :param issuer: what `iss` must be; None for anything.
    :param audience: what `aud` must be or contain; None for anything.
    :param at: the database's time.
    """

    keys: tuple[PublicKey, ...]
    issuer: str | None
    audience: str | None
    at: datetime


def verify(*, token: str, partner_id: int) -> BearerUser:
    """Tell whose token this is, if it is good for baskets of the partner.

    Must not be called inside a transaction: a partner's keys may have to be fetched.

    :raises TokenInvalid: it is malformed, or nobody that the partner trusts has signed it for us.
    :raises TokenExpired: it would be good, but for its end.
    """
    header, claims = _unverified(token)
    expired = False
    for trust in _trusts(header=header, claims=claims, partner_id=partner_id):
        for key in trust.keys:
            try:
                return _checked(token, header["alg"], key, trust)
            except TokenExpired:
                expired = True
            except TokenInvalid:
                continue
    raise TokenExpired if expired else TokenInvalid


def _unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take a token apart, to learn who is said to have signed it. Nothing of it is believed yet."""
    if len(token) > LONGEST or not token.isascii():
        raise TokenInvalid
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid from error
    header, claims = parts["header"], parts["payload"]
    if not isinstance(header.get("alg"), str) or not isinstance(header.get("kid", ""), str):
        raise TokenInvalid
    # Whoever marks a header as critical wants those who do not know it to refuse, and we know none.
    if "crit" in header or not isinstance(claims.get("iss", ""), str):
        raise TokenInvalid
    return header, claims


def _trusts(*, header: dict[str, Any], claims: dict[str, Any], partner_id: int) -> Iterator[Trust]:
    """All that could make a token good: our own word for guests, else that of the partner's issuers."""

    def wanted(key: PublicKey) -> bool:
        return key.fits(kid=header.get("kid"), algorithm=header["alg"])

    if claims.get("iss") == guests.ISSUER:
        yield from _own(kid=header.get("kid", ""), partner_id=partner_id, wanted=wanted)
        return
    trusted = TokenIssuer.objects.filter(partner_id=partner_id).annotate(at=Now()).order_by("pk")
    for row in reading(lambda: list(trusted)):
        # Before any key is fetched: what cannot be good needs none.
        if header["alg"] not in row.algorithms or row.issuer not in {"", claims.get("iss")}:
            continue
        stored = filter(wanted, parse_jwks(row.keys)[0] if row.keys is not None else ())
        keys = published_keys.keys_at(row.keys_url, wanted=wanted) if row.keys_url else tuple(stored)
        yield Trust(keys=keys, issuer=row.issuer or None, audience=row.audience or None, at=row.at)


def _own(*, kid: str, partner_id: int, wanted: Callable[[PublicKey], bool]) -> Iterator[Trust]:
    """Our own trust in what we have signed for guests of this partner."""
    signed = SigningKey.objects.good().filter(kid=kid).values_list("public_jwk", Now())
    for jwk, at in reading(lambda: list(signed)) if "\x00" not in kid else []:
        keys = tuple(filter(wanted, [parse_jwk(jwk)]))
        yield Trust(keys=keys, issuer=guests.ISSUER, audience=guests.audience_of(partner_id), at=at)


def _checked(token: str, algorithm: str, key: PublicKey, trust: Trust) -> BearerUser:
    """Verify the signature of a token, and then everything that it says."""
    options = {
        "require": ["exp", "sub"],
        "verify_exp": False, "verify_nbf": False, "verify_iat": False,
        "verify_aud": trust.audience is not None,
    }  # fmt: skip
    try:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=trust.issuer,
            audience=trust.audience,
            options=options,  # type: ignore[arg-type]  # A TypedDict there, and a plain one here.
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise TokenInvalid from error
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= LONGEST_SUBJECT:
        raise TokenInvalid
    now = trust.at.timestamp()
    expires, begins = _moment(claims, "exp"), _moment(claims, "nbf")
    _moment(claims, "iat")
    if expires is None or (begins is not None and begins > now + LEEWAY_SECONDS):
        raise TokenInvalid
    if expires <= now - LEEWAY_SECONDS:
        raise TokenExpired
    issuer = claims.get("iss", "")
    return BearerUser(user_id=subject, issuer=issuer, guest=issuer == guests.ISSUER)


def _moment(claims: dict[str, Any], name: str) -> float | None:
    """Read a time of a token: a number of seconds, and nothing that merely looks like one."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LAST_SECOND:
        raise TokenInvalid
    return float(value)
