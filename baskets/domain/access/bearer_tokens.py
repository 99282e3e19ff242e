"""Verifies bearer tokens: the signature, then the claims. How a refusal looks is decided in `api.auth.bearer`.

PyJWT checks form, signature, issuer and audience. This module compares the times, with the database's clock. Of the header,
it uses `kid` and `alg` only: a token cannot name a place to fetch its key from.
"""

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import jwt
from django.db.models import Exists
from django.db.models.functions import Now
from jwt.utils import base64url_decode

from baskets.db.errors import read_with_reconnect
from baskets.domain.access import guest_tokens, jwks_cache
from baskets.domain.access.jwks import EDWARDS_CURVES, PublicKey, matching_keys, parse_jwk
from baskets.domain.access.jwks_cache import KeysUnavailable
from baskets.models import GuestToken, SigningKey, TokenIssuer

# A token holds a name and some times. Longer text is refused before it is parsed.
MAX_TOKEN_LENGTH = 8192
NIL_UUID = UUID(int=0)
LEEWAY_SECONDS = 30
MAX_SUBJECT_LENGTH = 255
# Later than any date. NaN fails the comparison with it, too.
MAX_TIMESTAMP = 1 << 40

for curve in EDWARDS_CURVES:
    with suppress(ValueError):  # PyJWT has registered it already.
        jwt.register_algorithm(curve, jwt.algorithms.OKPAlgorithm())


class TokenInvalid(Exception):
    """The token is malformed, or no trusted issuer has signed it for this service."""


class TokenExpired(Exception):
    """The token is valid except that it has expired."""


@dataclass(frozen=True, kw_only=True)
class BearerUser:
    """The user of a valid token.

    :param guest: whether this service issued the token, for a guest, and not the partner.
    :param transferred: whether the guest's device took the basket over from another device.
    """

    user_id: str
    issuer: str
    guest: bool
    transferred: bool = False


@dataclass(frozen=True, kw_only=True)
class VerificationRule:
    """The claims that a token must have.

    :param issuer: the required `iss`; None for any.
    :param audience: `aud` must be or contain it; None for any.
    :param at: the database's time.
    """

    issuer: str | None
    audience: str | None
    at: datetime


def verify(*, token: str, partner_id: int) -> BearerUser:
    """Verify a token for baskets of a partner, and return its user.

    Runs one statement if the key is stored. Must not be called inside a transaction, because it may fetch the issuer's keys:
    see Note [One fetch, no queue].

    :raises TokenInvalid: the token is malformed, or no issuer that the partner trusts has signed it for this service.
    :raises TokenExpired: the token is valid except that it has expired.
    :raises KeysUnavailable: the token may be valid, but its issuer's keys are not stored and cannot be fetched now.
    """
    header, claims = _decode_unverified(token)
    if claims.get("iss") == guest_tokens.ISSUER:
        return _verify_guest(token, header, jti=claims.get("jti"), partner_id=partner_id)
    issuers = [issuer for issuer in _read_issuers(partner_id) if _may_be_issuer(issuer, header, claims)]
    undecided: list[tuple[Any, BearerUser | None]] = []
    for issuer in issuers:
        keys = _matching_keys(header, jwks_cache.stored_keys(issuer))
        user = _verify_with_keys(token, header, keys, issuer)
        if user is not None and not jwks_cache.is_stale(issuer, at=issuer.at):
            jwks_cache.refresh_in_background(issuer, at=issuer.at)
            return user
        if user is not None or (issuer.keys_url and not any(key.kid == header.get("kid", "") for key in keys)):
            undecided.append((issuer, user))
    # Fetch last: the stored keys of another issuer may have verified the token already.
    waits: list[int] = []
    for issuer, known in undecided:
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
    """Decode the header and the claims of a token, to find the keys to verify it with. Neither is trusted yet.

    :returns: the header, and the claims.
    :raises TokenInvalid: the token is malformed.
    """
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenInvalid
    try:
        for part in token.split(".")[:2]:
            _require_unambiguous_json(base64url_decode(part))
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, RecursionError) as error:
        raise TokenInvalid from error
    header, claims = parts["header"], parts["payload"]
    if not isinstance(header.get("alg"), str) or not isinstance(header.get("kid", ""), str):
        raise TokenInvalid
    # RFC 7515: a verifier refuses critical header parameters that it does not implement. This one implements none.
    if "crit" in header or not isinstance(claims.get("iss", ""), str):
        raise TokenInvalid
    return header, claims


def _require_unambiguous_json(text: bytes) -> None:
    """Check that every JSON parser reads the same: UTF-8, no member twice, no NaN and no infinity. RFC 8725, section 2.4.

    :raises ValueError: it may be read in two ways.
    """

    def unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(names := dict(members)) != len(members):
            raise ValueError("a member appears twice")
        return names

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    json.loads(text.decode("utf-8"), object_pairs_hook=unique, parse_constant=refuse)


def _read_issuers(partner_id: int) -> list[Any]:
    """Read the issuers that a partner trusts, each with the database's time as `at`."""
    issuers = TokenIssuer.objects.filter(partner_id=partner_id).annotate(at=Now()).order_by("pk")
    return read_with_reconnect(lambda: list(issuers))


def _may_be_issuer(issuer: TokenIssuer, header: dict[str, Any], claims: dict[str, Any]) -> bool:
    """Return whether the unverified header and claims fit an issuer. If not, its keys are not fetched for this token."""
    algorithm = "EdDSA" if header["alg"] in EDWARDS_CURVES else header["alg"]
    return algorithm in issuer.algorithms and issuer.issuer in {"", claims.get("iss")}


def _matching_keys(header: dict[str, Any], keys: Sequence[PublicKey]) -> list[PublicKey]:
    return matching_keys(keys, kid=header.get("kid"), algorithm=header["alg"])


def _verify_with_keys(token: str, header: dict[str, Any], keys: Iterable[PublicKey], issuer: Any) -> BearerUser | None:
    """Verify a token with each of some keys of an issuer.

    :returns: the user of the token; None if none of the keys verifies it, or a claim is wrong.
    :raises TokenExpired: one of the keys verifies the token, and it has expired.
    """
    rule = VerificationRule(issuer=issuer.issuer or None, audience=issuer.audience or None, at=issuer.at)
    for key in keys:
        with suppress(TokenInvalid):
            return _verify_with_key(token, header["alg"], key, rule)
    return None


def _verify_guest(token: str, header: dict[str, Any], *, jti: object, partner_id: int) -> BearerUser:
    """Verify a token that this service issued for a guest of the partner.

    Tokens from before devices were listed have no `jti`: none of them can be revoked alone.

    :raises TokenInvalid: this service has not signed the token, or the token was revoked.
    :raises TokenExpired: the token is valid except that it has expired.
    """
    kid = header.get("kid", "")
    revoked = GuestToken.objects.filter(pk=_parse_jti(jti), revoked_at__isnull=False)
    signed = SigningKey.objects.valid().filter(~Exists(revoked), kid=kid).values_list("public_jwk", Now())
    for jwk, at in read_with_reconnect(lambda: list(signed)) if "\x00" not in kid else []:
        rule = VerificationRule(issuer=guest_tokens.ISSUER, audience=guest_tokens.token_audience(partner_id), at=at)
        for key in _matching_keys(header, [parse_jwk(jwk)]):
            return _verify_with_key(token, header["alg"], key, rule)
    raise TokenInvalid


def _verify_with_key(token: str, algorithm: str, key: PublicKey, rule: VerificationRule) -> BearerUser:
    """Verify the signature of a token, then its claims.

    :raises TokenInvalid: the signature or a claim is wrong.
    :raises TokenExpired: the token is valid except that it has expired.
    """
    options = {
        "require": ["exp", "sub"],
        "verify_exp": False, "verify_nbf": False, "verify_iat": False,
        "verify_aud": rule.audience is not None,
    }  # fmt: skip
    try:
        claims = jwt.decode(
            token,
            key.key,
            algorithms=[algorithm],
            issuer=rule.issuer,
            audience=rule.audience,
            options=options,  # type: ignore[arg-type]  # A TypedDict there, and a plain one here.
        )
    except (jwt.PyJWTError, ValueError, TypeError) as error:
        raise TokenInvalid from error
    subject = claims["sub"]
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_LENGTH:
        raise TokenInvalid
    now = rule.at.timestamp()
    expires, begins = _numeric_date(claims, "exp"), _numeric_date(claims, "nbf")
    _numeric_date(claims, "iat")
    if expires is None or (begins is not None and begins > now + LEEWAY_SECONDS):
        raise TokenInvalid
    if expires <= now - LEEWAY_SECONDS:
        raise TokenExpired
    issuer = claims.get("iss", "")
    guest = issuer == guest_tokens.ISSUER
    return BearerUser(user_id=subject, issuer=issuer, guest=guest, transferred=guest and claims.get("transferred") is True)


def _parse_jti(value: object) -> UUID:
    """Parse the `jti` of a guest token. Returns the nil UUID, which no device has, for any other value."""
    try:
        return UUID(value) if isinstance(value, str) else NIL_UUID
    except ValueError:
        return NIL_UUID


def _numeric_date(claims: dict[str, Any], name: str) -> float | None:
    """Return a time claim in seconds since 1970, or None if the token does not have it.

    :raises TokenInvalid: the claim is not a number, or too large.
    """
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MAX_TIMESTAMP:
        raise TokenInvalid
    return float(value)
