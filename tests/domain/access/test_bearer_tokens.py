"""Tokens of any content: whatever stands in them, they are good, expired or invalid, and nothing else happens."""

import json
from typing import Any

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baskets.domain.access import bearer_tokens, guest_tokens, token_issuers
from baskets.domain.access.jwks import InvalidKey, KeySet, parse_jwks
from baskets.domain.actors import Actor
from baskets.models import Partner
from baskets.models.token_issuers import ALGORITHMS
from tests.tokens import KeyPair, assembled

PAIR = KeyPair("ES256")
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
CLAIMS = st.dictionaries(
    st.sampled_from(["sub", "exp", "nbf", "iat", "iss", "aud", "jti", "guest"]),
    ANYTHING | st.sampled_from([4e9, "ada", guest_tokens.ISSUER]),
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "crit", "b64", "typ", "cty", "jwk", "jku", "x5u", "zip", "enc", "epk"]),
    ANYTHING | st.sampled_from([*ALGORITHMS, "HS256", "none", "key-1"]),
)
THOROUGH = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def partner_with_issuer(partner: Partner) -> Partner:
    with connection.cursor() as cursor:  # The transaction of the test is idle while Hypothesis chooses.
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
    keys = {"keys": [PAIR.jwk]}
    settings_of_issuer = {"keys": keys, "algorithms": ALGORITHMS, "unrestricted": True}
    token_issuers.add_issuer(partner_name=partner.name, name="login", actor=Actor.system("tests"), **settings_of_issuer)
    return partner


def outcome(token: str, partner: Partner) -> Any:
    try:
        return bearer_tokens.verify(token=token, partner_id=partner.pk)
    except (bearer_tokens.TokenInvalid, bearer_tokens.TokenExpired) as refusal:
        return refusal


@THOROUGH
@given(header=HEADERS, claims=CLAIMS | ANYTHING)
def test_whatever_a_trusted_issuer_signs(partner_with_issuer: Partner, header: dict[str, Any], claims: Any) -> None:
    found = outcome(PAIR.sign(claims, **header), partner_with_issuer)
    if isinstance(found, bearer_tokens.BearerUser):
        assert (found.user_id, found.guest) == (claims["sub"], False)
        assert header.get("alg", "ES256") == "ES256"
        assert isinstance(claims["exp"], int | float)


@THOROUGH
@given(header=HEADERS | ANYTHING, claims=CLAIMS | ANYTHING, signature=st.binary(max_size=80))
def test_an_unsigned_token_is_refused(partner_with_issuer: Partner, header: Any, claims: Any, signature: bytes) -> None:
    assert isinstance(outcome(assembled(header, claims, signature), partner_with_issuer), bearer_tokens.TokenInvalid)


@THOROUGH
@given(text=st.text(max_size=200) | st.from_regex(r"[A-Za-z0-9_.=-]{0,200}", fullmatch=True))
def test_nothing_is_good_that_is_no_token(partner_with_issuer: Partner, text: str) -> None:
    assert isinstance(outcome(text, partner_with_issuer), bearer_tokens.TokenInvalid)


KEYS = st.dictionaries(
    st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops", "d", "k"]),
    ANYTHING
    | st.sampled_from(["RSA", "EC", "OKP", "oct", "P-256", "Ed25519", "AQAB", "AA", "sig", PAIR.jwk["x"], PAIR.jwk["y"], "ES256", "RS256"]),
)


@THOROUGH
@given(document=st.fixed_dictionaries({"keys": st.lists(KEYS | ANYTHING, max_size=4)}) | ANYTHING)
def test_whatever_is_published_as_a_key_set(document: Any) -> None:
    try:
        found = parse_jwks(document)
    except InvalidKey:
        return
    assert len(found.keys) + len(found.skipped) == len(document["keys"])
    assert all(key.algorithms <= {*ALGORITHMS, "Ed25519", "Ed448"} for key in found.keys)
    assert parse_jwks(json.loads(json.dumps(found.to_document()))) == KeySet(keys=found.keys, skipped=())


GOOD = b'{"sub":"ada","exp":4000000000}'


@pytest.mark.parametrize(
    ("claims", "accepted"),
    [
        (GOOD, True),
        (b'{"sub":"ben","sub":"ada","exp":4000000000}', False),
        (b'{"sub":"ada","exp":4000000000,"x":{"y":1,"y":2}}', False),
        (b'{"sub":"ada","exp":4000000000,"x":NaN}', False),
        (b'{"sub":"ada","exp":4000000000,"x":[-Infinity]}', False),
        (GOOD.decode().encode("utf-16"), False),
        (GOOD.decode().encode("utf-16-le"), False),
        (GOOD.decode().encode("utf-32"), False),
        (b"\xef\xbb\xbf" + GOOD, False),
        (b'{"sub":"ad\xff","exp":4000000000}', False),
    ],
)
def test_claims_that_two_parsers_read_differently_are_refused(partner_with_issuer: Partner, claims: bytes, accepted: bool) -> None:
    found = outcome(PAIR.sign_raw(claims), partner_with_issuer)
    assert isinstance(found, bearer_tokens.BearerUser) == accepted
