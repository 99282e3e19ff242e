"""API keys: shown once, expired by the database's clock, revoked for good."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from baskets.domain.access import api_keys, partners
from baskets.domain.access.api_keys import ApiKeyNotFound
from baskets.domain.access.partners import PartnerNotFound
from baskets.domain.validation import InvalidValue
from baskets.models import ApiKey
from tests.factories import TESTER

pytestmark = pytest.mark.django_db


def test_key_is_stored_as_prefix_and_digest() -> None:
    partners.create_partner(name="acme", actor=TESTER)
    key, text = api_keys.issue_api_key(partner_name="acme", label="back end", actor=TESTER)
    assert re.fullmatch(r"bk_[a-z0-9]{12}_[0-9a-f]{64}", text)
    stored = ApiKey.objects.get()
    assert (stored.prefix, bytes(stored.digest)) == (text.split("_")[1], hashlib.sha256(text.encode()).digest())
    assert (stored.kind, stored.label, stored.created_by, stored.expires_at) == ("server", "back end", "tests", None)
    assert stored == key
    assert text.split("_")[2] not in str(ApiKey.objects.values())


def test_keys_are_unique() -> None:
    partners.create_partner(name="acme", actor=TESTER)
    issued = [api_keys.issue_api_key(partner_name="acme", actor=TESTER) for _ in range(5)]
    assert len({key.prefix for key, _ in issued}) == 5
    assert len({text.split("_")[2] for _, text in issued}) == 5


def test_expiry_follows_the_database_clock() -> None:
    partners.create_partner(name="acme", actor=TESTER)
    with time_machine.travel(datetime(2001, 1, 1, tzinfo=UTC), tick=False):
        key, _ = api_keys.issue_api_key(partner_name="acme", kind="client", expires_in=timedelta(days=3), actor=TESTER)
    assert key.expires_at is not None
    assert key.expires_at - key.created_at == timedelta(days=3)
    assert key.created_at.year > 2001
    assert list(ApiKey.objects.valid()) == [key]


@pytest.mark.parametrize(
    "end",
    [
        {"expires_in": timedelta()},
        {"expires_in": timedelta(days=-1)},
        {"expires_in": timedelta(days=36501)},
        {"label": "a\nb"},
        {"label": "x" * 101},
        {"kind": "master"},
    ],
)
def test_invalid_value_is_refused(end: dict[str, Any]) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    with pytest.raises(InvalidValue):
        api_keys.issue_api_key(partner_name="acme", actor=TESTER, **end)
    assert not ApiKey.objects.exists()


def test_key_of_unknown_partner_is_refused() -> None:
    with pytest.raises(PartnerNotFound):
        api_keys.issue_api_key(partner_name="unknown", actor=TESTER)


def test_revoked_key_keeps_its_first_revocation_time() -> None:
    partners.create_partner(name="acme", actor=TESTER)
    key, _ = api_keys.issue_api_key(partner_name="acme", actor=TESTER)
    other, _ = api_keys.issue_api_key(partner_name="acme", actor=TESTER)
    first = api_keys.revoke_api_key(prefix=key.prefix, reason="stolen", actor=TESTER)
    assert first.revoked_at is not None
    assert list(ApiKey.objects.valid()) == [other]
    assert api_keys.revoke_api_key(prefix=key.prefix, reason="stolen", actor=TESTER).revoked_at == first.revoked_at


def test_unknown_prefix_is_refused() -> None:
    with pytest.raises(ApiKeyNotFound):
        api_keys.revoke_api_key(prefix="abcdefghijkl", reason="stolen", actor=TESTER)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("bk_abcdefghij12_" + "0f" * 32, "abcdefghij12"),
        ("bk_abcdefghij12_" + "0F" * 32, None),
        ("bk_abcdefghij12_" + "0f" * 31, None),
        ("bk_abcdefghij12_" + "0f" * 32 + "\n", None),
        ("bk_ABCDEFGHIJ12_" + "0f" * 32, None),
        ("bk_abcdefghij\uff11\uff12_" + "0f" * 32, None),
        ("", None),
        ("\ud800", None),
    ],
)
def test_prefix_is_parsed_from_well_formed_keys_only(text: str, prefix: str | None) -> None:
    assert api_keys.parse_key_prefix(text) == prefix
    assert len(api_keys.digest_key(text)) == 32
