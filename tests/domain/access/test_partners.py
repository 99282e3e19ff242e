"""Partners and their keys: named once, shown once, ended by the database's clock, revoked for good."""

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from baskets.domain.access import partners
from baskets.domain.access.partners import ApiKeyNotFound, InvalidValue, PartnerNameTaken, PartnerNotFound
from baskets.models import ApiKey, Partner
from tests.factories import TESTER

pytestmark = pytest.mark.django_db


def test_a_partner_has_the_defaults_of_the_service() -> None:
    partner = partners.create_partner(name="Acme TV")
    assert (partner.name, partner.late_orders, partner.hold_seconds) == ("Acme TV", "refuse", None)


def test_a_name_is_given_once(everything_stored: Callable[[], dict[str, list[Any]]]) -> None:
    partners.create_partner(name="acme", late_orders="accept", hold_seconds=60)
    before = everything_stored()
    with pytest.raises(PartnerNameTaken):
        partners.create_partner(name="acme")
    assert everything_stored() == before
    assert partners.create_partner(name="ACME").name == "ACME"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": ""}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "  "}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "x" * 101}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\x00b"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\nb"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\u202eb"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\ud800b"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a", "hold_seconds": 0}, "A hold lasts from 1 to 604800 seconds."),
        ({"name": "a", "hold_seconds": -1}, "A hold lasts from 1 to 604800 seconds."),
        ({"name": "a", "hold_seconds": 604801}, "A hold lasts from 1 to 604800 seconds."),
        ({"name": "a", "late_orders": "maybe"}, "Late orders are either refused or accepted: `refuse` or `accept`."),
    ],
)
def test_what_cannot_be_stored_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        partners.create_partner(**values)
    assert str(refusal.value) == problem
    assert not Partner.objects.exists()


def test_a_key_is_shown_once_and_stored_as_prefix_and_digest() -> None:
    partners.create_partner(name="acme")
    key, text = partners.issue_api_key(partner_name="acme", label="back end", created_by="tests")
    assert re.fullmatch(r"bk_[a-z0-9]{12}_[0-9a-f]{64}", text)
    stored = ApiKey.objects.get()
    assert (stored.prefix, bytes(stored.digest)) == (text.split("_")[1], hashlib.sha256(text.encode()).digest())
    assert (stored.kind, stored.label, stored.created_by, stored.expires_at) == ("server", "back end", "tests", None)
    assert stored == key
    assert text.split("_")[2] not in str(ApiKey.objects.values())


def test_no_two_keys_are_alike() -> None:
    partners.create_partner(name="acme")
    issued = [partners.issue_api_key(partner_name="acme", created_by="tests") for _ in range(5)]
    assert len({key.prefix for key, _ in issued}) == 5
    assert len({text.split("_")[2] for _, text in issued}) == 5


def test_the_end_of_a_key_counts_by_the_clock_of_the_database() -> None:
    partners.create_partner(name="acme")
    with time_machine.travel(datetime(2001, 1, 1, tzinfo=UTC), tick=False):
        key, _ = partners.issue_api_key(partner_name="acme", kind="client", expires_in=timedelta(days=3), created_by="tests")
    assert key.expires_at is not None
    assert key.expires_at - key.created_at == timedelta(days=3)
    assert key.created_at.year > 2001
    assert list(ApiKey.objects.valid()) == [key]


@pytest.mark.parametrize(
    "end",
    [
        {"expires_at": datetime(2001, 1, 1, tzinfo=UTC)},
        {"expires_in": timedelta()},
        {"expires_in": timedelta(days=-1)},
        {"expires_in": timedelta(days=36501)},
        {"expires_in": timedelta(days=1), "expires_at": datetime(2999, 1, 1, tzinfo=UTC)},
        {"label": "a\nb"},
        {"label": "x" * 101},
        {"kind": "master"},
    ],
)
def test_a_key_that_cannot_be_is_refused(end: dict[str, Any]) -> None:
    partners.create_partner(name="acme")
    with pytest.raises(InvalidValue):
        partners.issue_api_key(partner_name="acme", created_by="tests", **end)
    assert not ApiKey.objects.exists()


def test_a_key_needs_its_partner() -> None:
    with pytest.raises(PartnerNotFound):
        partners.issue_api_key(partner_name="nobody", created_by="tests")


def test_a_revoked_key_is_invalid_at_once_and_stays_revoked_since_the_first_time() -> None:
    partners.create_partner(name="acme")
    key, _ = partners.issue_api_key(partner_name="acme", created_by="tests")
    other, _ = partners.issue_api_key(partner_name="acme", created_by="tests")
    first = partners.revoke_api_key(prefix=key.prefix, actor=TESTER)
    assert first.revoked_at is not None
    assert list(ApiKey.objects.valid()) == [other]
    assert partners.revoke_api_key(prefix=key.prefix, actor=TESTER).revoked_at == first.revoked_at


def test_an_unknown_prefix_is_told() -> None:
    with pytest.raises(ApiKeyNotFound):
        partners.revoke_api_key(prefix="abcdefghijkl", actor=TESTER)


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
def test_a_key_is_recognised_by_its_form(text: str, prefix: str | None) -> None:
    assert partners.parse_key_prefix(text) == prefix
    assert len(partners.digest_key(text)) == 32
