"""`reencrypt_secrets`: moves every stored secret to the first key, and says what it cannot read."""

from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.db import models

from baskets.domain.comfort import change_comfort, read_comfort
from baskets.domain.reencryption import ENCRYPTED
from baskets.models import Comfort
from baskets.models.contents import Owner
from tests.commands.conftest import Run

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_a_key_can_be_taken_away_afterwards(owner: Owner, settings: Any, run: Run, monkeypatch: Any, transactional_db: None) -> None:
    monkeypatch.setattr("baskets.domain.reencryption.BATCH", 2)
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    users = [Owner(partner_id=owner.partner_id, user_id=f"user-{n}") for n in range(5)]
    for user in users:
        change_comfort(owner=user, said={"customer_id": user.user_id}, consent=True)
    settings.BASKETS_ENCRYPTION_KEYS = [NEW, OLD]
    rows = list(Comfort.objects.order_by("pk").values())
    tried = run("reencrypt_secrets", "--dry-run", "--json")
    assert (tried.code, tried.data["encrypted"], tried.data["dry_run"]) == (0, 5, True)
    assert list(Comfort.objects.order_by("pk").values()) == rows
    ended = run("reencrypt_secrets", "--json")
    assert (ended.code, ended.data) == (0, {"encrypted": 5, "unreadable": 0, "stopped": False, "dry_run": False})
    settings.BASKETS_ENCRYPTION_KEYS = [NEW]
    assert [read_comfort(owner=user).customer_id for user in users] == [user.user_id for user in users]


def test_what_cannot_be_read_is_left_and_told(owner: Owner, settings: Any, run: Run, transactional_db: None) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    change_comfort(owner=owner, said={"customer_id": "c"}, consent=True)
    settings.BASKETS_ENCRYPTION_KEYS = [NEW]
    rows = list(Comfort.objects.values())
    ended = run("reencrypt_secrets")
    assert (ended.code, ended.out) == (1, "Encrypted 0 secrets anew; 1 cannot be read.\n")
    assert list(Comfort.objects.values()) == rows


def test_every_column_that_may_hold_a_secret_is_looked_at() -> None:
    listed = {(model, field) for model, fields in ENCRYPTED for field in fields}
    # What is compared and never read again.
    digests = {"digest", "fingerprint"}
    columns = {
        (model, field.name)
        for model in apps.get_app_config("baskets").get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.BinaryField) and field.name not in digests
    }
    assert columns == listed
