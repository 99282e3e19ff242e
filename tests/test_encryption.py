"""Stored secrets: readable with the known keys, for their own purpose and row alone, and moved to a new key without a gap."""

import base64
from itertools import product
from typing import Any

import pytest
from cryptography.fernet import Fernet

from baskets.checks import check_encryption_keys
from baskets.encryption import UnreadableSecret, decrypt, decrypt_token, encrypt, encrypt_token, reencrypt

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()
PLACE = {"purpose": "comfort.customer_id", "context": 7}


@pytest.mark.parametrize("keys", [[], [OLD]])
@pytest.mark.parametrize("text", ["tok_\u00fc", ""])
def test_secret_is_decrypted_and_not_readable_in_storage(settings: Any, keys: list[str], text: str) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = keys
    stored = encrypt(text, **PLACE)
    assert decrypt(stored, **PLACE) == text
    assert decrypt(memoryview(stored), **PLACE) == text
    assert b"tok" not in stored
    assert encrypt(text, **PLACE) != stored


@pytest.mark.parametrize(
    "place",
    [
        {"purpose": "comfort.payment_token", "context": 7},
        {"purpose": "comfort.customer_id", "context": 8},
        {"purpose": "comfort.customer_id", "context": ""},
        {"purpose": "comfort.customer_id7", "context": ""},
    ],
)
def test_a_ciphertext_does_not_decrypt_in_another_column_or_row(place: dict[str, Any]) -> None:
    stored = encrypt("secret", **PLACE)
    with pytest.raises(UnreadableSecret):
        decrypt(stored, **place)
    with pytest.raises(UnreadableSecret):
        reencrypt(stored, **place)
    token = encrypt_token("secret", **PLACE)
    with pytest.raises(UnreadableSecret):
        decrypt_token(token, **place)


def test_a_ciphertext_with_one_changed_byte_does_not_decrypt() -> None:
    stored = encrypt("secret", **PLACE)
    for place in range(len(stored)):
        with pytest.raises(UnreadableSecret):
            decrypt(stored[:place] + bytes([stored[place] ^ 1]) + stored[place + 1 :], **PLACE)


@pytest.mark.parametrize("length", [0, 1, 16, 17, 32, 33])
def test_a_truncated_ciphertext_does_not_decrypt(length: int) -> None:
    with pytest.raises(UnreadableSecret):
        decrypt(encrypt("secret", **PLACE)[:length], **PLACE)


@pytest.mark.parametrize("keys", [[], [OLD]])
def test_former_format_is_decrypted_and_then_bound(settings: Any, keys: list[str]) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = keys
    settings.SECRET_KEY = "f" * 60
    # What the former code stored for this secret: a key that HKDF derives with "baskets: stored secrets", and no salt.
    key = keys[0] if keys else "DDkMauVn0jI9br3Ckuh_ExEaSjDt1sJs10sK7xxW7Sk="
    former = Fernet(key).encrypt(b"tok_1")
    assert decrypt(former, **PLACE) == "tok_1"
    bound = reencrypt(former, **PLACE)
    assert decrypt(bound, **PLACE) == "tok_1"
    with pytest.raises(UnreadableSecret):
        decrypt(bound, purpose="comfort.customer_id", context=8)


def test_a_key_is_replaced_in_three_steps(settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    stored, token = encrypt("secret", **PLACE), encrypt_token("secret", purpose="list")
    settings.BASKETS_ENCRYPTION_KEYS = [NEW, OLD]
    assert decrypt(stored, **PLACE) == "secret"
    assert decrypt_token(token, purpose="list") == "secret"
    moved = reencrypt(stored, **PLACE)
    settings.BASKETS_ENCRYPTION_KEYS = [NEW]
    assert decrypt(moved, **PLACE) == "secret"
    with pytest.raises(UnreadableSecret):
        decrypt(stored, **PLACE)
    with pytest.raises(UnreadableSecret):
        reencrypt(stored, **PLACE)
    with pytest.raises(UnreadableSecret):
        decrypt_token(token, purpose="list")


def test_fallbacks_of_the_secret_key_decrypt_without_configured_keys(settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = []
    former = settings.SECRET_KEY
    stored = encrypt("secret", **PLACE)
    settings.SECRET_KEY = "another-" + "x" * 60
    with pytest.raises(UnreadableSecret):
        decrypt(stored, **PLACE)
    settings.SECRET_KEY_FALLBACKS = [former]
    assert decrypt(stored, **PLACE) == "secret"


@pytest.mark.parametrize("text", ["", "1", "evt-4711", "\u00fc" * 40])
def test_token_is_deterministic_and_not_readable(text: str) -> None:
    token = encrypt_token(text, purpose="list", context=3)
    assert token == encrypt_token(text, purpose="list", context=3)
    assert decrypt_token(token, purpose="list", context=3) == text
    assert len(token) == -(-(16 + len(text.encode())) * 4 // 3)
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    # A ciphertext contains any given byte with a probability of 6%, so a text of one byte proves nothing here.
    assert len(text) < 2 or text.encode() not in base64.urlsafe_b64decode(token + "==")


def test_tokens_of_other_contexts_or_similar_texts_share_no_prefix() -> None:
    texts = [encrypt_token(str(position), purpose="list", context=partner) for position, partner in product(range(100, 120), (1, 2))]
    assert len({text[:6] for text in texts}) == len(texts)


@pytest.mark.parametrize("spelling", ["", "A", "{}=", "{}A", " {}", "{}\n", "\u00fc", "{}\u0661", "+/" * 11])
def test_invalid_token_is_refused(spelling: str) -> None:
    token = encrypt_token("4711", purpose="list")
    assert len(token) == 27
    with pytest.raises(UnreadableSecret):
        decrypt_token(spelling.format(token), purpose="list")


def test_token_has_one_encoding() -> None:
    """The last character of 27 carries four bits, so that base64 reads four characters as the same bytes."""
    token = encrypt_token("4711", purpose="list")
    spellings = [token[:-1] + last for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"]
    read = []
    for spelling in spellings:
        try:
            decrypt_token(spelling, purpose="list")
        except UnreadableSecret:
            continue
        read.append(spelling)
    assert read == [token]


def test_stored_secret_and_token_are_not_interchangeable() -> None:
    stored = base64.urlsafe_b64encode(encrypt("secret", **PLACE)[1:]).decode().rstrip("=")
    with pytest.raises(UnreadableSecret):
        decrypt_token(stored, **PLACE)
    with pytest.raises(UnreadableSecret):
        decrypt(b"\x01" + base64.urlsafe_b64decode(encrypt_token("secret", **PLACE) + "=="), **PLACE)


def test_invalid_key_is_reported_and_not_quoted(settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD, "rubbish", NEW]
    (problem,) = check_encryption_keys()
    assert (problem.id, "rubbish" in problem.msg, "Key 2" in problem.msg) == ("baskets.E030", False, True)
