"""Tokens of guests: who verifies them, what they grant, and the rotation of the keys that sign them."""

import json
import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.db import connection
from django.db.models import F
from django.test.utils import override_settings

from baskets import conf
from baskets.domain.access import bearer_tokens, guest_tokens, signing_keys
from baskets.encryption import decrypt
from baskets.models import Basket, GuestToken, Partner, SigningKey
from baskets.models.basket_snapshot import Owner
from tests.api.conftest import Api, Sells, Stored, Unchanged
from tests.api.test_guests import GUESTS, OPERATOR, TOKEN_INVALID, as_guest, published
from tests.tokens import KeyPair, opened


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1")
    sells("p2")


# --- The token -----------------------------------------------------------------------------------


def test_another_library_verifies_the_token(app: Api, partner: Partner) -> None:
    guest = app.post(GUESTS, {}).data
    header, claims = opened(guest["jwt"], published())
    assert set(header) == {"alg", "kid", "typ"}
    assert claims == {
        "iss": "urn:baskets:guests",
        "aud": f"urn:baskets:partner:{partner.pk}",
        "sub": guest["userId"],
        "iat": claims["iat"],
        "exp": claims["iat"] + 30 * 24 * 60 * 60,
        "jti": str(GuestToken.objects.get().pk),
        "guest": True,
        "transferred": False,
    }


def test_key_set_contains_no_private_part(app: Api) -> None:
    assert published() == {"keys": []}
    app.post(GUESTS, {})
    [key] = published()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    stored = SigningKey.objects.get()
    assert b"PRIVATE" not in bytes(stored.private_key)
    assert "PRIVATE" in decrypt(stored.private_key, purpose=signing_keys.ENCRYPTION_PURPOSE, context=stored.kid)


def test_token_grants_access_to_its_own_basket_only(app: Api, api: Api, other_partner: Api, unchanged: Unchanged) -> None:
    guest = app.post(GUESTS, {}).data
    browser, user = as_guest(app, guest), guest["userId"]
    unchanged()
    assert browser.get("/baskets/users/ada").refusal == (401, 2002, "token_user_mismatch")
    assert browser.delete(f"/baskets/users/{user.upper()}").refusal == (401, 2002, "token_user_mismatch")
    # A server key may act for any user, but not with the token of another user.
    assert as_guest(api, guest).get("/baskets/users/ada").refusal == (401, 2002, "token_user_mismatch")
    assert as_guest(api, guest).get(f"/baskets/users/{user}").status == 200
    assert as_guest(other_partner, guest).get(f"/baskets/users/{user}").refusal == TOKEN_INVALID
    assert as_guest(app, guest).post("/baskets/products/details", ["p1"]).status == 200


def test_a_token_can_be_issued_for_any_basket_of_the_partner(app: Api, api: Api, partner: Partner) -> None:
    api.place("p1", 2)
    at = Basket.objects.get().last_changed_at
    token = guest_tokens.issue_guest_token(owner=Owner(partner_id=partner.pk, user_id="ada"), at=at)
    assert as_guest(app, {"jwt": token.text}).basket()["cart"] == [{"productId": "p1", "count": 2}]


def test_token_expires_by_the_clock_of_the_database(app: Api, api: Api, partner: Partner) -> None:
    api.place("p1", 2)
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        [now] = cursor.fetchone()
    for ago, refusal in (
        (timedelta(days=30, seconds=-60), None),
        (timedelta(days=30, seconds=10), None),
        (timedelta(days=30, seconds=60), True),
    ):
        token = guest_tokens.issue_guest_token(owner=Owner(partner_id=partner.pk, user_id="ada"), at=now - ago)
        answer = app.get("/baskets/users/ada", Authorization=f"Bearer {token.text}")
        if refusal is None:
            assert answer.status == 200
        else:
            assert answer.refusal == (401, 2002, "token_expired")
            assert answer.headers["WWW-Authenticate"] == 'Bearer realm="baskets", error="invalid_token"'


@pytest.fixture
def guest_key_pair(app: Api) -> KeyPair:
    """The signing key of the service, as a key pair."""
    app.post(GUESTS, {})
    stored = SigningKey.objects.get()
    text = decrypt(stored.private_key, purpose=signing_keys.ENCRYPTION_PURPOSE, context=stored.kid)
    return KeyPair("ES256", kid=stored.kid, private=load_pem_private_key(text.encode(), None))


@pytest.fixture
def claims(partner: Partner) -> dict[str, Any]:
    """The claims of a valid token."""
    return {"iss": guest_tokens.ISSUER, "aud": guest_tokens.token_audience(partner.pk), "sub": "ada", "exp": 4_000_000_000}


def test_token_signed_in_the_test_is_accepted(app: Api, guest_key_pair: KeyPair, claims: dict[str, Any]) -> None:
    assert app.get("/baskets/users/ada", Authorization=f"Bearer {guest_key_pair.sign(claims)}").status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"sub": None}, {"sub": 5}, {"sub": ["ada"]}, {"sub": ""}, {"sub": "x" * 256}, {"exp": None}, {"exp": "4000000000"},
        {"exp": True}, {"exp": []}, {"exp": 1e300}, {"exp": 10**400}, {"exp": float("inf")}, {"exp": float("nan")},
        {"nbf": 3_999_999_999}, {"nbf": "0"}, {"nbf": None}, {"iat": "0"}, {"iat": {}}, {"aud": "urn:baskets:partner:0"},
        {"aud": None}, {"aud": 5}, {"aud": []}, {"aud": [None]}, {"iss": "urn:baskets:guest"}, {"iss": 5}, {"iss": None}, {"jti": 5},
    ],
    ids=str,
)  # fmt: skip
def test_valid_signature_with_wrong_claims_is_refused(
    app: Api, guest_key_pair: KeyPair, claims: dict[str, Any], change: Any, unchanged: Unchanged
) -> None:
    unchanged()
    assert app.delete("/baskets/users/ada", Authorization=f"Bearer {guest_key_pair.sign(claims | change)}").refusal == TOKEN_INVALID


@pytest.mark.parametrize("missing", ["sub", "exp", "aud", "iss"])
def test_missing_claim_is_refused(app: Api, guest_key_pair: KeyPair, claims: dict[str, Any], missing: str) -> None:
    claims.pop(missing)
    assert app.get("/baskets/users/ada", Authorization=f"Bearer {guest_key_pair.sign(claims)}").refusal == TOKEN_INVALID


@pytest.mark.parametrize(
    "header",
    [{"crit": ["b64"], "b64": True}, {"crit": []}, {"crit": "x"}, {"b64": False}, {"kid": 5}, {"kid": ["a"]}, {"kid": "unknown"},
     {"kid": "a\x00b"}, {"kid": ""}, {"kid": None}, {"alg": "none"}, {"alg": "HS256"}, {"alg": "ES384"}, {"alg": "RS256"}, {"alg": 5},
     {"alg": None}, {"alg": "es256"}],
    ids=str,
)  # fmt: skip
def test_unexpected_header_is_refused(app: Api, guest_key_pair: KeyPair, claims: dict[str, Any], header: Any) -> None:
    assert app.get("/baskets/users/ada", Authorization=f"Bearer {guest_key_pair.sign(claims, **header)}").refusal == TOKEN_INVALID


def test_key_inside_a_token_is_ignored(app: Api, guest_key_pair: KeyPair, claims: dict[str, Any]) -> None:
    thief = KeyPair("ES256", kid=guest_key_pair.kid)
    for header in ({"jwk": thief.jwk}, {"jku": "https://127.0.0.1:1/keys"}, {"x5u": "https://127.0.0.1:1/"}, {"x5c": ["MII"]}):
        assert app.get("/baskets/users/ada", Authorization=f"Bearer {thief.sign(claims, **header)}").refusal == TOKEN_INVALID
        assert app.get("/baskets/users/ada", Authorization=f"Bearer {guest_key_pair.sign(claims, **header)}").status == 200


def test_token_of_absurd_length_is_not_parsed(app: Api, guest_key_pair: KeyPair, claims: dict[str, Any], monkeypatch: Any) -> None:
    token = guest_key_pair.sign(claims | {"fill": "x" * 100_000})
    monkeypatch.setattr(bearer_tokens.jwt, "decode_complete", None)
    assert app.get("/baskets/users/ada", Authorization=f"Bearer {token}").refusal == TOKEN_INVALID


# --- Rotation ---------------------------------------------------------------------------------------


def kids() -> list[str]:
    return [key["kid"] for key in published()["keys"]]


def make_new_key_sign() -> None:
    """Let the time pass for which a new key is published before it signs."""
    delay = conf.guest_key_publication()
    SigningKey.objects.update(signs_from=F("signs_from") - delay, ends_at=F("ends_at") - delay)


def test_new_key_is_published_before_it_signs(app: Api) -> None:
    app.post(GUESTS, {})
    [old] = kids()
    first, second = (signing_keys.rotate(actor=OPERATOR) for _ in range(2))
    assert kids() == [old, second.kid, first.kid]
    assert conf.guest_key_publication() > 10 * timedelta(minutes=1), "longer than verifiers may cache the keys"
    assert opened(app.post(GUESTS, {}).data["jwt"], published())[0]["kid"] == old
    SigningKey.objects.filter(kid=first.kid).update(signs_from=F("created_at"))
    assert opened(app.post(GUESTS, {}).data["jwt"], published())[0]["kid"] == first.kid
    make_new_key_sign()
    assert opened(app.post(GUESTS, {}).data["jwt"], published())[0]["kid"] == second.kid
    assert set(kids()) == {old, first.kid, second.kid}


def test_tokens_of_a_replaced_key_stay_valid_and_both_keys_are_published(app: Api) -> None:
    before = app.post(GUESTS, {}).data
    [old] = kids()
    rotation = signing_keys.rotate(actor=OPERATOR)
    assert (rotation.ended, kids()) == ((), [old, rotation.kid])
    make_new_key_sign()
    assert kids() == [rotation.kid, old]
    after = app.post(GUESTS, {}).data
    for guest, kid in ((before, old), (after, rotation.kid)):
        assert opened(guest["jwt"], published())[0]["kid"] == kid
        assert as_guest(app, guest).get(f"/baskets/users/{guest['userId']}").status == 200


def test_replaced_key_is_removed_after_its_last_token_expires(app: Api) -> None:
    guest = app.post(GUESTS, {}).data
    old = SigningKey.objects.get()
    signing_keys.rotate(actor=OPERATOR)
    old.refresh_from_db()
    assert old.ends_at is not None
    assert timedelta(days=30) < old.ends_at - SigningKey.objects.newest().get().signs_from < timedelta(days=30, hours=2)
    make_new_key_sign()
    SigningKey.objects.filter(pk=old.pk).update(ends_at=old.created_at)
    assert len(kids()) == 1
    assert as_guest(app, guest).get(f"/baskets/users/{guest['userId']}").refusal == TOKEN_INVALID
    assert signing_keys.rotate(actor=OPERATOR).ended == (old.kid,)


def test_revoked_signing_key_is_refused_at_once(app: Api) -> None:
    guest = app.post(GUESTS, {}).data
    [old] = kids()
    rotation = signing_keys.rotate(revoke_old=True, actor=OPERATOR)
    assert (rotation.ended, kids()) == ((old,), [rotation.kid])
    assert as_guest(app, guest).get(f"/baskets/users/{guest['userId']}").refusal == TOKEN_INVALID


def test_former_secret_key_works_as_fallback_and_a_lost_one_requires_a_rotation(app: Api, stored_rows: Stored, settings: Any) -> None:
    guest = app.post(GUESTS, {}).data
    old, settings.SECRET_KEY = settings.SECRET_KEY, "n" * 50
    with override_settings(SECRET_KEY_FALLBACKS=[old]):
        assert app.post(GUESTS, {}).status == 200
    before = stored_rows()
    refused = app.post(GUESTS, {})
    assert refused.refusal == (503, 503, "signing_key_unreadable")
    assert refused.headers["Retry-After"] == "1"
    assert stored_rows() == before
    assert as_guest(app, guest).get(f"/baskets/users/{guest['userId']}").status == 200
    signing_keys.rotate(actor=OPERATOR)
    assert app.post(GUESTS, {}).status == 200


@pytest.mark.parametrize("foreign", ["the row of an older key", "a webhook's secret in the former format", "no ciphertext"])
def test_signing_key_that_does_not_match_its_row_signs_nothing(app: Api, stored_rows: Stored, settings: Any, foreign: str) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [key := Fernet.generate_key().decode()]
    app.post(GUESTS, {})
    signing_keys.rotate(actor=OPERATOR)
    make_new_key_sign()
    ciphertext = {
        "the row of an older key": bytes(SigningKey.objects.get(ends_at__isnull=False).private_key),
        "a webhook's secret in the former format": Fernet(key).encrypt(b"whsec_AAAA"),
        "no ciphertext": b"",
    }[foreign]
    SigningKey.objects.newest().update(private_key=ciphertext)
    before = stored_rows()
    assert app.post(GUESTS, {}).refusal == (503, 503, "signing_key_unreadable")
    assert stored_rows() == before


@pytest.mark.django_db(transaction=True)
def test_key_rotation_under_load_fails_no_call(app: Api, settings: Any) -> None:
    """Including the first key, which all threads try to create."""
    settings.BASKETS_GUEST_KEY_PUBLICATION_SECONDS = 0
    wrong: list[Any] = []
    seen: set[str] = set()

    def new_thread(work: Callable[[], None]) -> threading.Thread:
        def run() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (the test reports it)
                wrong.append(error)
            finally:
                connection.close()

        return threading.Thread(target=run)

    def create_guests() -> None:
        caller = Api(app.key)
        for _ in range(12):
            guest = caller.post(GUESTS, {"products": [{"productId": "p1"}]}).data
            seen.add(json.dumps(opened(guest["jwt"], published())[0]["kid"]))
            assert as_guest(caller, guest).place("p2", user=guest["userId"]).status == 200

    def rotate_keys() -> None:
        for _ in range(6):
            signing_keys.rotate(actor=OPERATOR)

    threads = [new_thread(create_guests) for _ in range(4)] + [new_thread(rotate_keys) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    assert SigningKey.objects.newest().count() == 1
    assert len(seen) > 1
