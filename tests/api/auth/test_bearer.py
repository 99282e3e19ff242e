"""Tokens of a partner's own issuers: which are good, and everything that is not. All are made by hand."""

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.db import connection
from django.test.utils import CaptureQueriesContext

from baskets.domain.access import guest_tokens, token_issuers
from baskets.domain.actors import Actor
from baskets.domain.validation import InvalidValue
from baskets.models import Partner, TokenIssuer
from baskets.models.token_issuers import ALGORITHMS
from tests import seams
from tests.api.conftest import Api, ApiResponse, Stored, Unchanged
from tests.tokens import KeyPair, b64, hmac_token, number

INVALID = (401, 2002, "token_invalid")
EXPIRED = (401, 2002, "token_expired")
MISMATCH = (401, 2002, "token_user_mismatch")
OPERATOR = Actor.system("tests")
FAR = 4_000_000_000
GOOD = {"iss": "https://login.example", "aud": "baskets", "sub": "ada", "exp": FAR}


def add_issuer(partner: Partner, *pairs: KeyPair, name: str = "login", **options: Any) -> token_issuers.AddedIssuer:
    config = {"issuer": "https://login.example", "audience": "baskets", "algorithms": ALGORITHMS} | options
    config.setdefault("keys", {"keys": [pair.jwk for pair in pairs]})
    return token_issuers.add_issuer(partner_name=partner.name, name=name, actor=OPERATOR, **config)


def show(api: Api, token: str, user: str = "ada") -> ApiResponse:
    return api.get(f"/baskets/users/{user}", Authorization=f"Bearer {token}")


@pytest.fixture(scope="module")
def pair() -> KeyPair:
    return KeyPair("ES256")


@pytest.fixture(scope="module")
def rsa_pair() -> KeyPair:
    return KeyPair("RS256", kid="rsa")


# --- Good tokens ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_token_of_every_asymmetric_algorithm_is_accepted(app: Api, partner: Partner, rsa_pair: KeyPair, algorithm: str) -> None:
    signer = KeyPair(algorithm, private=rsa_pair.private if algorithm[:2] in {"RS", "PS"} else None)
    add_issuer(partner, signer, algorithms=[algorithm])
    assert show(app, signer.sign(GOOD)).status == 200


def test_token_with_the_other_edwards_curve_is_accepted(app: Api, partner: Partner) -> None:
    signer = KeyPair("EdDSA", private=ed448.Ed448PrivateKey.generate())
    add_issuer(partner, signer)
    assert show(app, signer.sign(GOOD)).status == 200


def test_token_grants_access_to_the_basket_of_its_user_only(
    app: Api, partner: Partner, pair: KeyPair, sells: Any, unchanged: Unchanged
) -> None:
    sells("p1")
    add_issuer(partner, pair)
    user_app = Api(app.key, headers={"Authorization": f"Bearer {pair.sign(GOOD)}"})
    assert user_app.place("p1", 2).status == 200
    order_no = user_app.start().data["orderNo"]
    assert user_app.finish(True).status == 200
    assert user_app.session(order_no).data["status"] == "ORDERED"
    unchanged()
    assert user_app.place("p1", 2, user="bob").refusal == MISMATCH
    assert user_app.get("/baskets/users/Ada").refusal == MISMATCH
    assert user_app.post("/baskets/products/details", ["p1"]).status == 200
    assert user_app.basket()["cart"] == []


def test_a_server_key_may_bring_the_users_token_too(api: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    assert show(api, pair.sign(GOOD)).status == 200
    assert show(api, pair.sign(GOOD), user="bob").refusal == MISMATCH
    assert show(api, "x").refusal == INVALID


def test_user_id_is_compared_unchanged(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    assert show(app, pair.sign(GOOD | {"sub": "zoë@home +1"}), user="zo%C3%AB%40home%20+1").status == 200


def test_issuer_and_audience_are_checked_only_if_configured(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair, issuer="", audience="", unrestricted=True)
    for claims in ({"sub": "ada", "exp": FAR}, GOOD, GOOD | {"iss": "other", "aud": ["a", "b"]}):
        assert show(app, pair.sign(claims)).status == 200
    assert show(app, pair.sign(GOOD | {"iss": guest_tokens.ISSUER})).refusal == INVALID


def test_a_list_of_audiences_must_name_ours(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    assert show(app, pair.sign(GOOD | {"aud": ["else", "baskets"]})).status == 200
    assert show(app, pair.sign(GOOD | {"aud": ["else"]})).refusal == INVALID


def test_several_issuers_are_trusted_side_by_side(app: Api, partner: Partner, pair: KeyPair, rsa_pair: KeyPair) -> None:
    add_issuer(partner, pair)
    add_issuer(partner, rsa_pair, name="partner app", issuer="app", audience="")
    assert show(app, pair.sign(GOOD)).status == 200
    assert show(app, rsa_pair.sign(GOOD | {"iss": "app"})).status == 200
    assert show(app, rsa_pair.sign(GOOD)).refusal == INVALID
    assert show(app, pair.sign(GOOD | {"iss": "app"})).refusal == INVALID


def test_two_keys_of_one_issuer_work_and_a_kid_is_optional(app: Api, partner: Partner) -> None:
    old, new = KeyPair("ES256", kid="old"), KeyPair("ES256", kid="new")
    add_issuer(partner, old, new)
    for signer in (old, new):
        assert show(app, signer.sign(GOOD)).status == 200
        assert show(app, signer.sign(GOOD, kid=None)).status == 200
    assert show(app, old.sign(GOOD, kid="new")).refusal == INVALID


def test_a_key_without_kid_serves_tokens_without(app: Api, partner: Partner) -> None:
    nameless = KeyPair("EdDSA", kid=None)
    add_issuer(partner, nameless)
    assert show(app, nameless.sign(GOOD)).status == 200


def test_a_kid_may_mean_the_only_key_for_the_algorithm_if_that_has_none(app: Api, partner: Partner, rsa_pair: KeyPair) -> None:
    nameless = KeyPair("ES256", kid=None)
    add_issuer(partner, nameless, rsa_pair)
    assert show(app, nameless.sign(GOOD, kid="unpublished")).status == 200
    assert show(app, rsa_pair.sign(GOOD, kid="unpublished")).refusal == INVALID
    for other in (KeyPair("ES256", kid="other"), KeyPair("ES256", kid=None)):
        add_issuer(partner, nameless, other)
        assert show(app, nameless.sign(GOOD, kid="unpublished")).refusal == INVALID
        assert show(app, nameless.sign(GOOD)).status == 200


def test_a_kid_that_a_key_has_means_that_key(app: Api, partner: Partner) -> None:
    named, nameless = KeyPair("ES256", kid="named"), KeyPair("EdDSA", kid=None)
    add_issuer(partner, named, nameless)
    assert show(app, named.sign(GOOD)).status == 200
    assert show(app, nameless.sign(GOOD, kid="named")).status == 200
    # A key for another algorithm has this name; the only one for this algorithm has none.
    assert show(app, KeyPair("ES256", kid="named").sign(GOOD)).refusal == INVALID


@pytest.mark.parametrize("curve", ["Ed25519", "Ed448"])
def test_the_curve_may_stand_for_eddsa_in_keys_and_tokens(app: Api, partner: Partner, curve: str) -> None:
    """RFC 9864 names the curve where RFC 8037 has EdDSA."""
    private = {"Ed25519": ed25519.Ed25519PrivateKey, "Ed448": ed448.Ed448PrivateKey}[curve].generate()
    signer = KeyPair("EdDSA", private=private)
    for named in ({}, {"alg": curve}, {"alg": "EdDSA"}):
        add_issuer(partner, keys={"keys": [signer.jwk | named]}, algorithms=["EdDSA"])
        for algorithm in ("EdDSA", curve):
            assert show(app, signer.sign(GOOD, alg=algorithm)).status == 200
        other = {"Ed25519": "Ed448", "Ed448": "Ed25519"}[curve]
        assert show(app, signer.sign(GOOD, alg=other)).refusal == INVALID
    with pytest.raises(InvalidValue):
        add_issuer(partner, keys={"keys": [signer.jwk | {"alg": other}]})
    add_issuer(partner, signer, KeyPair("ES256", kid="else"), algorithms=["ES256"])
    assert show(app, signer.sign(GOOD, alg=curve)).refusal == INVALID


# --- Bad tokens -----------------------------------------------------------------------------------------


def test_a_token_of_another_partners_issuer_is_invalid(app: Api, other_partner: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(Partner.objects.get(name="Other"), pair)
    assert show(app, pair.sign(GOOD)).refusal == INVALID
    assert show(other_partner, pair.sign(GOOD)).status == 200


def test_tokens_of_a_removed_issuer_are_refused_at_once(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    assert show(app, pair.sign(GOOD)).status == 200
    token_issuers.remove_issuer(partner_name=partner.name, name="login", actor=OPERATOR)
    assert show(app, pair.sign(GOOD)).refusal == INVALID


def test_token_without_expiry_or_past_it_is_refused(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    with connection.cursor() as cursor:
        cursor.execute("SELECT extract(epoch FROM now())::float")
        [now] = cursor.fetchone()
    for claims, refusal in (
        ({"exp": now - 15}, None),
        ({"exp": now - 45}, EXPIRED),
        ({"exp": 0}, EXPIRED),
        ({"exp": -5}, EXPIRED),
        ({"nbf": now + 15}, None),
        ({"nbf": now + 60}, INVALID),
        ({"nbf": now + 60, "exp": 0}, INVALID),
        ({"exp": now - 45, "aud": "else"}, INVALID),
        ({"iat": now + 3600}, None),
    ):
        answer = show(app, pair.sign(GOOD | claims))
        assert (answer.status if refusal is None else answer.refusal) == (refusal or 200), claims


def test_expired_token_of_another_user_is_refused_as_expired(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    assert show(app, pair.sign(GOOD | {"exp": 1}), user="bob").refusal == EXPIRED


@pytest.mark.parametrize(
    "claims",
    [GOOD | change for change in (
        {"sub": 5}, {"sub": None}, {"sub": True}, {"sub": ["ada"]}, {"sub": {"a": "ada"}}, {"sub": ""}, {"sub": "x" * 256},
        {"exp": str(FAR)}, {"exp": None}, {"exp": True}, {"exp": [FAR]}, {"exp": 10**30}, {"exp": float("nan")}, {"exp": float("inf")},
        {"nbf": "0"}, {"nbf": None}, {"nbf": []}, {"iat": "0"}, {"iat": False},
        {"iss": "https://login.example/"}, {"iss": 5}, {"iss": ["https://login.example"]}, {"iss": None},
        {"aud": "Baskets"}, {"aud": 5}, {"aud": [5]}, {"aud": {}}, {"aud": None},
    )] + [[], None, "ada", 5, {}, {"sub": "ada"}, {"exp": FAR}],
    ids=str,
)  # fmt: skip
def test_claims_of_the_wrong_type_are_refused(app: Api, partner: Partner, pair: KeyPair, claims: Any, unchanged: Unchanged) -> None:
    add_issuer(partner, pair)
    unchanged()
    assert show(app, pair.sign(claims)).refusal == INVALID


@pytest.mark.parametrize(
    "header",
    [{"alg": "none"}, {"alg": "None"}, {"alg": ""}, {"alg": None}, {"alg": 5}, {"alg": ["ES256"]}, {"alg": "ES384"}, {"alg": "RS256"},
     {"alg": "HS256"}, {"kid": 5}, {"kid": ["key-1"]}, {"kid": {}}, {"kid": "unknown"}, {"kid": "a\x00"}, {"kid": "../../x"},
     {"crit": ["exp"]}, {"crit": []}, {"crit": None, "b64": False}, {"crit": ["b64"], "b64": False}, {"b64": 0, "crit": ["b64"]}],
    ids=str,
)  # fmt: skip
def test_headers_of_the_wrong_type_are_refused(app: Api, partner: Partner, pair: KeyPair, header: Any) -> None:
    add_issuer(partner, pair)
    assert show(app, pair.sign(GOOD, **header)).refusal == INVALID


def test_public_key_cannot_be_used_as_shared_secret(app: Api, partner: Partner, rsa_pair: KeyPair) -> None:
    add_issuer(partner, rsa_pair)
    public = rsa_pair.private.public_key()
    for encoding, form in ((Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)):
        secret = public.public_bytes(encoding, form)
        assert show(app, hmac_token(GOOD, secret, kid="rsa")).refusal == INVALID
    assert show(app, hmac_token(GOOD, json.dumps(rsa_pair.jwk).encode(), kid="rsa")).refusal == INVALID


def test_keys_and_addresses_inside_a_token_are_ignored(app: Api, partner: Partner, pair: KeyPair, monkeypatch: Any) -> None:
    add_issuer(partner, pair)
    seams.REQUEST_TO_ANOTHER.replace(monkeypatch, None)
    thief = KeyPair("ES256")
    for header in ({"jwk": thief.jwk}, {"jku": "https://127.0.0.1:1/"}, {"x5u": "https://127.0.0.1:1/"}, {"x5c": ["MIIB"]}, {"x5t": "x"}):
        assert show(app, thief.sign(GOOD, **header)).refusal == INVALID
        assert show(app, pair.sign(GOOD, **header)).status == 200


def test_algorithm_that_is_not_configured_is_refused(app: Api, partner: Partner, rsa_pair: KeyPair) -> None:
    add_issuer(partner, rsa_pair, algorithms=["PS256"])
    assert show(app, rsa_pair.sign(GOOD)).refusal == INVALID
    assert show(app, KeyPair("PS256", kid="rsa", private=rsa_pair.private).sign(GOOD)).status == 200


def test_invalid_signature_is_refused(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    head, body, signature = pair.sign(GOOD).split(".")
    other_body = pair.sign(GOOD | {"sub": "bob"}).split(".")[1]
    for token in (
        f"{head}.{other_body}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        f"{head}.{body}.{signature}.x",
        f"{head}.{body}.{b64(bytes(64))}",
        f"{head}.{body}.{signature[:-4]}",
        f"{head}.{body}.%%%",
        f".{body}.{signature}",
        "..",
        ".",
    ):
        assert show(app, token, user="bob").refusal == INVALID
        assert show(app, token).refusal == INVALID


@pytest.mark.parametrize("raw", [b"[" * 4000, b'{"a":' * 1500, b"\xff\xfe", b"{", b"1" * 5000, b'{"exp": ' + b"9" * 5000 + b"}", b""])
def test_invalid_json_in_a_token_is_refused(app: Api, partner: Partner, pair: KeyPair, raw: bytes) -> None:
    add_issuer(partner, pair)
    good = b64(b'{"alg":"ES256","kid":"key-1"}')
    for token in (f"{good}.{b64(raw)}.{b64(bytes(64))}", f"{b64(raw)}.{b64(raw)}.{b64(bytes(64))}", f"{b64(raw)}.e30.AA"):
        assert show(app, token).refusal == INVALID


def test_a_call_without_a_token_costs_no_statement_more_and_one_with_a_token_one(api: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    counts = []
    for headers in ({}, {"Authorization": f"Bearer {pair.sign(GOOD)}"}):
        with CaptureQueriesContext(connection) as captured:
            assert api.get("/baskets/users/ada", **headers).status == 200
        counts.append(len(captured))
    assert counts == [2, 3]


# --- What cannot be trusted -----------------------------------------------------------------------------


WEAK = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 (to be refused)
SHORT = KeyPair("RS256", kid="weak", private=WEAK)
GOOD_KEY = KeyPair("ES256").jwk
OTHER_CURVE = KeyPair("ES256", private=ec.generate_private_key(ec.SECP256R1())).jwk | {"crv": "secp256k1"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""}, {"name": "a\nb"}, {"name": "x" * 101}, {"issuer": guest_tokens.ISSUER}, {"issuer": "a\x00b"}, {"audience": "x" * 256},
        {"algorithms": []}, {"algorithms": ["HS256"]}, {"algorithms": ["ES256", "none"]}, {"algorithms": ["RS256"]},
        {"keys": None}, {"keys_url": "https://example.com/keys"}, {"keys": None, "keys_url": "http://example.com/keys"},
        {"keys": None, "keys_url": "https://127.0.0.1/keys"}, {"keys": None, "keys_url": "https://me:x@example.com/"},
        *({"keys": keys} for keys in (
            [], {}, "x", {"keys": {}}, {"keys": []}, {"keys": ["x"]}, {"keys": [None]}, {"keys": [{}]}, {"keys": [GOOD_KEY] * 51},
            {"keys": [GOOD_KEY | {"d": "AAAA"}]}, {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}, {"keys": [SHORT.jwk]},
            {"keys": [GOOD_KEY | {"use": "enc"}]}, {"keys": [GOOD_KEY | {"key_ops": ["sign"]}]}, {"keys": [GOOD_KEY | {"x": "AA"}]},
            {"keys": [GOOD_KEY | {"kid": 5}]}, {"keys": [GOOD_KEY | {"alg": "ES384"}]}, {"keys": [GOOD_KEY | {"kty": []}]},
            {"keys": [OTHER_CURVE]}, {"keys": [GOOD_KEY, GOOD_KEY | {"d": "AAAA"}]}, {"keys": [GOOD_KEY, {"kty": "AKP", "priv": "AA"}]},
            {"keys": [GOOD_KEY | {"alg": "EdDSA"}]}, {"keys": [KeyPair("EdDSA").jwk]},
        )),
        {"audience": ""},
    ],
    ids=lambda change: " ".join(sorted(change)),  # No values: each process makes new keys.
)  # fmt: skip
def test_invalid_issuer_is_refused_with_a_message(partner: Partner, change: Any, stored_rows: Stored) -> None:
    config = {"name": "login", "audience": "baskets", "algorithms": ["ES256"], "keys": {"keys": [GOOD_KEY]}} | change
    before = stored_rows()
    with pytest.raises(InvalidValue) as refusal:
        token_issuers.add_issuer(partner_name=partner.name, actor=OPERATOR, **config)
    assert str(refusal.value).endswith(".")
    assert stored_rows() == before


@pytest.mark.parametrize(("bits", "usable"), [(1024, False), (2040, False), (2048, True)])
def test_rsa_keys_have_at_least_2048_bits(partner: Partner, bits: int, usable: bool) -> None:
    weak = KeyPair("RS256", kid=None, private=rsa.generate_private_key(public_exponent=65537, key_size=bits))
    if usable:
        assert add_issuer(partner, weak, algorithms=["RS256"]).skipped == ()
        return
    with pytest.raises(InvalidValue) as refusal:
        add_issuer(partner, weak, algorithms=["RS256"])
    sentence = f"keys[0]: An RSA key has 2048 to 16384 bits; this one has {bits}."
    assert str(refusal.value) == f"The key set has no usable key. {sentence}"
    assert add_issuer(partner, weak, KeyPair("ES256")).skipped == (sentence,)


def test_unusable_keys_of_a_set_are_skipped_and_named(app: Api, partner: Partner, pair: KeyPair) -> None:
    secp256k1 = ec.generate_private_key(ec.SECP256K1()).public_key().public_numbers()
    keys = [
        pair.jwk | {"kid": "for encryption", "use": "enc"},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA", "kid": "post-quantum"},
        {"kty": "EC", "crv": "secp256k1", "x": number(secp256k1.x, 32), "y": number(secp256k1.y, 32), "alg": "ES256K"},
        SHORT.jwk,
        {"kty": "oct", "k": "c2VjcmV0", "kid": "shared\n\u202e" + "x" * 100},
        KeyPair("ES384", kid="other").jwk,
        pair.jwk,
    ]
    trusted = add_issuer(partner, keys={"keys": keys}, algorithms=["ES256", "RS256"])
    assert trusted.skipped == (
        "keys[0] (kid 'for encryption'): The key is not meant for signatures.",
        "keys[1] (kid 'post-quantum'): The key type 'AKP' is not supported.",
        "keys[2]: The curve secp256k1 is not supported.",
        "keys[3] (kid 'weak'): An RSA key has 2048 to 16384 bits; this one has 1024.",
        f"keys[4] (kid 'shared\\n\\u202e{'x' * 32}'): The key type 'oct' is not supported.",
        "keys[5] (kid 'other'): The key is for none of the algorithms of this issuer.",
    )
    assert TokenIssuer.objects.get().keys == {"keys": [pair.jwk]}
    assert show(app, pair.sign(GOOD)).status == 200
    assert show(app, SHORT.sign(GOOD)).refusal == INVALID


def test_set_without_a_usable_key_is_refused_with_the_reasons(partner: Partner) -> None:
    with pytest.raises(InvalidValue) as refusal:
        add_issuer(partner, keys={"keys": [{"kty": "oct"}] * 7})
    reasons = " ".join(f"keys[{place}]: The key type 'oct' is not supported." for place in range(5))
    assert str(refusal.value) == f"The key set has no usable key. {reasons} And so on."


def test_issuer_without_iss_and_aud_must_be_declared_unrestricted(partner: Partner, pair: KeyPair) -> None:
    with pytest.raises(InvalidValue, match=r"for whatever service it was made: give at least one of them"):
        add_issuer(partner, pair, issuer="", audience="")
    for config in ({"issuer": ""}, {"audience": ""}, {"issuer": "", "audience": "", "unrestricted": True}):
        add_issuer(partner, pair, **config)


def test_an_issuer_that_is_trusted_again_is_replaced(app: Api, partner: Partner, pair: KeyPair) -> None:
    add_issuer(partner, pair)
    fresh = KeyPair("ES256")
    add_issuer(partner, fresh)
    assert TokenIssuer.objects.count() == 1
    assert show(app, pair.sign(GOOD)).refusal == INVALID
    assert show(app, fresh.sign(GOOD)).status == 200
