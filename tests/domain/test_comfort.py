"""Comfort settings: kept with consent, changed field by field, gone without a trace."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from django.db import connection
from django.db.models import F

from baskets.domain import runner
from baskets.domain.comfort import ComfortSettings, change_comfort, read_comfort
from baskets.domain.errors import ConsentMissing
from baskets.encryption import UnreadableSecret
from baskets.models import Comfort
from baskets.models.basket_snapshot import Owner

Stored = Callable[[], dict[str, list[Any]]]


def values(owner: Owner) -> tuple[str | None, str | None]:
    stored = read_comfort(owner=owner)
    return stored.customer_id, stored.payment_token


def test_comfort_settings_are_empty_by_default(owner: Owner) -> None:
    assert read_comfort(owner=owner) == ComfortSettings()


@pytest.mark.parametrize("consent", [None, False])
def test_nothing_is_stored_without_consent(owner: Owner, consent: bool | None, stored_rows: Stored) -> None:
    before = stored_rows()
    with pytest.raises(ConsentMissing):
        runner.run(change_comfort, owner=owner, values={"customer_id": "c-1"}, consent=consent)
    assert stored_rows() == before


def test_consent_is_kept_since_it_was_first_given(owner: Owner) -> None:
    change_comfort(owner=owner, values={"customer_id": "c-1", "payment_token": "t-1"}, consent=True)
    first = read_comfort(owner=owner)
    change_comfort(owner=owner, values={}, consent=True)
    assert read_comfort(owner=owner) == first
    assert first.consented_at is not None


def test_a_field_changes_alone_and_null_deletes_it(owner: Owner) -> None:
    change_comfort(owner=owner, values={"customer_id": "c-1", "payment_token": "t-1"}, consent=True)
    change_comfort(owner=owner, values={"customer_id": "c-2"}, consent=None)
    assert values(owner) == ("c-2", "t-1")
    change_comfort(owner=owner, values={"payment_token": None}, consent=None)
    assert values(owner) == ("c-2", None)


def test_taking_consent_back_deletes_everything(owner: Owner) -> None:
    change_comfort(owner=owner, values={"customer_id": "c-1", "payment_token": "t-1"}, consent=True)
    change_comfort(owner=owner, values={"customer_id": None}, consent=False)
    assert read_comfort(owner=owner) == ComfortSettings()
    assert not Comfort.objects.exists()


def test_deleting_what_is_not_there_is_no_error(owner: Owner) -> None:
    for consent in (None, False):
        change_comfort(owner=owner, values={"customer_id": None, "payment_token": None}, consent=consent)
    assert not Comfort.objects.exists()


def test_another_user_and_another_partner_have_their_own(owner: Owner) -> None:
    change_comfort(owner=owner, values={"customer_id": "c-1"}, consent=True)
    assert read_comfort(owner=replace(owner, user_id="bob")) == ComfortSettings()
    assert read_comfort(owner=replace(owner, partner_id=owner.partner_id + 1)) == ComfortSettings()


def test_no_table_shows_what_is_stored(owner: Owner) -> None:
    change_comfort(owner=owner, values={"customer_id": "cust-4711", "payment_token": "tok-0815"}, consent=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT customer_id, payment_token FROM baskets_comfort")
        shown = b" ".join(bytes(value) for value in cursor.fetchone())
    assert b"4711" not in shown
    assert b"0815" not in shown
    assert values(owner) == ("cust-4711", "tok-0815")


def test_what_was_encrypted_stays_readable_while_its_key_is_known(owner: Owner, settings: Any) -> None:
    change_comfort(owner=owner, values={"customer_id": "c-1"}, consent=True)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another-" + "x" * 60
    assert values(owner) == ("c-1", None)


def test_what_another_user_or_field_has_cannot_be_copied(owner: Owner) -> None:
    other = replace(owner, user_id="bob")
    for user in (owner, other):
        change_comfort(owner=user, values={"customer_id": "c-1", "payment_token": "t-1"}, consent=True)
    stored = Comfort.objects.get(pk=other.basket_id)
    Comfort.objects.filter(pk=owner.basket_id).update(payment_token=stored.payment_token)
    with pytest.raises(UnreadableSecret):
        read_comfort(owner=owner)
    Comfort.objects.filter(pk=other.basket_id).update(customer_id=F("payment_token"))
    with pytest.raises(UnreadableSecret):
        read_comfort(owner=other)
