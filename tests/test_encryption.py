"""Stored secrets: readable with the keys that are known, with no other, and moved to a new key without a gap."""

from typing import Any

import pytest
from cryptography.fernet import Fernet

from baskets.checks import encryption_keys_are_keys
from baskets.encryption import UnreadableSecret, decrypt, encrypt, reencrypted

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


@pytest.mark.parametrize("keys", [[], [OLD]])
def test_a_secret_comes_back_and_is_not_to_be_read_in_between(settings: Any, keys: list[str]) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = keys
    stored = encrypt("tok_\u00fc")
    assert decrypt(stored) == "tok_\u00fc"
    assert decrypt(memoryview(stored)) == "tok_\u00fc"
    assert b"tok" not in stored
    assert encrypt("tok_\u00fc") != stored


def test_a_key_is_replaced_in_three_steps(settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    stored = encrypt("secret")
    settings.BASKETS_ENCRYPTION_KEYS = [NEW, OLD]
    assert decrypt(stored) == "secret"
    moved = reencrypted(stored)
    settings.BASKETS_ENCRYPTION_KEYS = [NEW]
    assert decrypt(moved) == "secret"
    with pytest.raises(UnreadableSecret):
        decrypt(stored)
    with pytest.raises(UnreadableSecret):
        reencrypted(stored)


def test_without_keys_the_former_secrets_of_the_service_read_too(settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = []
    former = settings.SECRET_KEY
    stored = encrypt("secret")
    settings.SECRET_KEY = "another-" + "x" * 60
    with pytest.raises(UnreadableSecret):
        decrypt(stored)
    settings.SECRET_KEY_FALLBACKS = [former]
    assert decrypt(stored) == "secret"


def test_what_is_no_key_is_reported_and_not_quoted(settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD, "rubbish", NEW]
    (problem,) = encryption_keys_are_keys()
    assert (problem.id, "rubbish" in problem.msg, "Key 2" in problem.msg) == ("baskets.E030", False, True)
