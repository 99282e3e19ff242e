"""Bearer tokens: whose signature is trusted, and which claims a token must have. How a refusal looks is the API's business.

PyJWT checks form, signature, issuer and audience. Times are compared here, because they are told by the database's
clock, as every other time of the service. Nothing that a token says about its own key is followed but `kid` and `alg`.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import jwt
from django.db.models import Exists
from django.db.models.functions import Now

from baskets.db.errors import reading
from baskets.domain.access import jwks_cache
from baskets.domain.access.jwks import EDWARDS_CURVES, PublicKey, matching_keys, parse_jwk
from baskets.domain.access.jwks_cache import KeysUnavailable
from baskets.domain.baskets import guests
from baskets.models import GuestToken, SigningKey, TokenIssuer

# A token carries a name and some dates. What is longer is no token, and is not even looked into.
MAX_TOKEN_LENGTH = 8192
NIL_UUID = UUID(int=0)
LEEWAY_SECONDS = 30
MAX_SUBJECT_LENGTH = 255
# Far beyond any date; what is no number at all is not below it either.
MAX_TIMESTAMP = 1 << 40

for curve in EDWARDS_CURVES:
    with suppress(ValueError):  # PyJWT knows it by itself.
        jwt.register_algorithm(curve, jwt.algorithms.OKPAlgorithm())


class TokenInvalid(Exception):
    """The token is not one that is trusted here."""


class TokenExpired(Exception):
    """The token was good once, and is over."""


@dataclass(frozen=True, kw_only=True)
class BearerUser:
    """The user whom a good token names.

    :param guest: whether the token is one of ours, for a guest; a partner's own users are known to it.
    :param transferred: whether the guest's device took the basket over from another one.
    """

    user_id: str
    issuer: str
    guest: bool
    transferred: bool = False


@dataclass(frozen=True, kw_only=True)
class VerificationRule:
    """One way in which a token can be good.

    :param issuer: what `iss` must be; None for anything.
    :param audience: what `aud` must be or contain; None for anything.
    :param at: the database's time.
    """

    issuer: str | None
    audience: str | None
    at: datetime


def verify(*, token: str, partner_id: int) -> BearerUser:
    """Return whose token this is, if it is good for baskets of the partner.

    Costs one statement if the key is stored. Must not be called inside a transaction: a partner's keys may have to be
    fetched; see Note [One fetch, no queue].

    :raises TokenInvalid: it is malformed, or not signed for this service by an issuer that the partner trusts.
    :raises TokenExpired: it would be good, but for its end.
    :raises KeysUnavailable: it may be good, but its issuer's keys are not stored and cannot be fetched now.
    """
    header, claims = _decode_unverified(token)
    if claims.get("iss") == guests.ISSUER:
        return _verify_guest(token, header, jti=claims.get("jti"), partner_id=partner_id)
    issuers = [issuer for issuer in _read_issuers(partner_id) if _may_be_issuer(issuer, header, claims)]
    unsettled: list[tuple[Any, BearerUser | None]] = []
    for issuer in issuers:
        keys = _matching_keys(header, jwks_cache.stored_keys(issuer))
        user = _verify_with_keys(token, header, keys, issuer)
        if user is not None and not jwks_cache.is_stale(issuer, at=issuer.at):
            jwks_cache.refresh_in_background(issuer, at=issuer.at)
            return user
        if user is not None or (issuer.keys_url and not any(key.kid == header.get("kid", "") for key in keys)):
            unsettled.append((issuer, user))
    # Only now, because another issuer may have settled it without a fetch.
    waits: list[int] = []
    for issuer, known in unsettled:
        try:
            newer = jwks_cache.fetch_newer_keys(issuer, at=issuer.at)
        except KeysUnavailable as unavailable:
            newer = None
            waits.append(unavailable.seconds)
        user = known if newer is None else _verify_with_keys(token, header, _matching_keys(header, newer), issuer)
        if user is not None:
            return user
    if waits:
        raise KeysUnavailable(seconds=min(waits))
    raise TokenInvalid


def _decode_unverified(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Take a token apart, to learn who is said to have signed it. Nothing of it is believed yet."""
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
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


def _read_issuers(partner_id: int) -> list[Any]:
    """Read the issuers that a partner trusts, each with the database's time as `at`."""
    trusted = TokenIssuer.objects.filter(partner_id=partner_id).annotate(at=Now()).order_by("pk")
    return reading(lambda: list(trusted))


def _may_be_issuer(issuer: TokenIssuer, header: dict[str, Any], claims: dict[str, Any]) -> bool:
    """Tell whether a token can be of this issuer, by what it says itself: if not, no key is fetched for it."""
    algorithm = "EdDSA" if header["alg"] in EDWARDS_CURVES else header["alg"]
    return algorithm in issuer.algorithms and issuer.issuer in {"", claims.get("iss")}


def _matching_keys(header: dict[str, Any], keys: Sequence[PublicKey]) -> list[PublicKey]:
    return matching_keys(keys, kid=header.get("kid"), algorithm=header["alg"])


def _verify_with_keys(token: str, header: dict[str, Any], keys: Iterable[PublicKey], issuer: Any) -> BearerUser | None:
    """Verify a token with each of some keys of an issuer.

    :returns: the user that it names; None if none of the keys verifies it, or its claims are wrong.
    :raises TokenExpired: one of the keys verifies it, and it has ended.
    """
    trust = VerificationRule(issuer=issuer.issuer or None, audience=issuer.audience or None, at=issuer.at)
    for key in keys:
        with suppress(TokenInvalid):
            return _verify_with_key(token, header["alg"], key, trust)
    return None


def _verify_guest(token: str, header: dict[str, Any], *, jti: object, partner_id: int) -> BearerUser:
    """Verify a token that this service has signed for a guest of the partner, and that was not revoked.

    Tokens from before devices were listed have no `jti`, and none of them can be revoked alone.
    """
    kid = header.get("kid", "")
    revoked = GuestToken.objects.filter(pk=_parse_jti(jti), revoked_at__isnull=False)
    signed = SigningKey.objects.valid().filter(~Exists(revoked), kid=kid).values_list("public_jwk", Now())
    for jwk, at in reading(lambda: list(signed)) if "\x00" not in kid else []:
        trust = VerificationRule(issuer=guests.ISSUER, audience=guests.token_audience(partner_id), at=at)
        for key in _matching_keys(header, [parse_jwk(jwk)]):
            return _verify_with_key(token, header["alg"], key, trust)
    raise TokenInvalid


def _verify_with_key(token: str, algorithm: str, key: PublicKey, trust: VerificationRule) -> BearerUser:
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
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH:
        raise TokenInvalid
    now = trust.at.timestamp()
    expires, begins = _numeric_date(claims, "exp"), _numeric_date(claims, "nbf")
    _numeric_date(claims, "iat")
    if expires is None or (begins is not None and begins > now + LEEWAY_SECONDS):
        raise TokenInvalid
    if expires <= now - LEEWAY_SECONDS:
        raise TokenExpired
    issuer = claims.get("iss", "")
    guest = issuer == guests.ISSUER
    return BearerUser(user_id=subject, issuer=issuer, guest=guest, transferred=guest and claims.get("transferred") is True)


def _parse_jti(value: object) -> UUID:
    """Read a `jti` of ours; the nil UUID for anything else, which names no device."""
    try:
        return UUID(value) if isinstance(value, str) else NIL_UUID
    except ValueError:
        return NIL_UUID


def _numeric_date(claims: dict[str, Any], name: str) -> float | None:
    """Read a time of a token: a number of seconds, and nothing that merely looks like one."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_TIMESTAMP:
        raise TokenInvalid
    return float(value)
