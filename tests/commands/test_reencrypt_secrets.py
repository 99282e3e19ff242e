"""`reencrypt_secrets`: moves every stored secret to the first key, and says what it cannot read."""

from dataclasses import replace
from typing import Any

from cryptography.fernet import Fernet
from django.apps import apps
from django.db import models

from baskets.domain.access.signing_keys import current_signer, rotate
from baskets.domain.comfort import change_comfort, read_comfort
from baskets.domain.events.webhook_endpoints import create_webhook
from baskets.domain.maintenance import reencryption
from baskets.domain.maintenance.reencryption import ENCRYPTED_FIELDS
from baskets.encryption import decrypt
from baskets.models import Comfort, Partner, SigningKey, WebhookEndpoint
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.factories import TESTER

OLD, NEW = Fernet.generate_key().decode(), Fernet.generate_key().decode()


def test_a_key_can_be_taken_away_afterwards(owner: Owner, settings: Any, run: Run, monkeypatch: Any, transactional_db: None) -> None:
    monkeypatch.setattr(reencryption, "BATCH", 2)
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    users = [Owner(partner_id=owner.partner_id, user_id=f"user-{n}") for n in range(5)]
    for user in users:
        change_comfort(owner=user, values={"customer_id": user.user_id}, consent=True)
    settings.BASKETS_ENCRYPTION_KEYS = [NEW, OLD]
    rows = list(Comfort.objects.order_by("pk").values())
    tried = run("reencrypt_secrets", "--dry-run", "--json")
    assert (tried.code, tried.data["encrypted"], tried.data["dry_run"]) == (0, 5, True)
    assert list(Comfort.objects.order_by("pk").values()) == rows
    ended = run("reencrypt_secrets", "--json")
    assert (ended.code, ended.data) == (0, {"encrypted": 5, "unreadable": 0, "stopped": False, "dry_run": False})
    settings.BASKETS_ENCRYPTION_KEYS = [NEW]
    assert [read_comfort(owner=user).customer_id for user in users] == [user.user_id for user in users]


def test_an_unreadable_secret_is_left_and_reported(owner: Owner, settings: Any, run: Run, transactional_db: None) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    change_comfort(owner=owner, values={"customer_id": "c"}, consent=True)
    settings.BASKETS_ENCRYPTION_KEYS = [NEW]
    rows = list(Comfort.objects.values())
    ended = run("reencrypt_secrets")
    assert (ended.code, ended.out) == (1, "Encrypted 0 secrets again; 1 cannot be read.\n")
    assert list(Comfort.objects.values()) == rows


def test_secrets_of_the_former_format_are_bound_to_their_rows(owner: Owner, run: Run, transactional_db: None, settings: Any) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [OLD]
    former = Fernet(OLD)
    others = [replace(owner, user_id=name) for name in ("ben", "cleo")]
    for user in (owner, *others):
        change_comfort(owner=user, values={}, consent=True)
        Comfort.objects.filter(pk=user.basket_id).update(
            customer_id=former.encrypt(user.user_id.encode()), payment_token=former.encrypt(b"t")
        )
    rotate(actor=TESTER)
    key = SigningKey.objects.newest().get()
    pem = decrypt(key.private_key, purpose="signingkey.private_key", context=key.kid)
    SigningKey.objects.filter(pk=key.pk).update(private_key=former.encrypt(pem.encode()))
    name = Partner.objects.get(pk=owner.partner_id).name
    endpoints = [create_webhook(partner_name=name, url="https://example.com/", actor=TESTER) for _ in range(2)]
    for endpoint, secret in endpoints:
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(secret=former.encrypt(secret.encode()))
    ended = run("reencrypt_secrets", "--json")
    # The rotation made two keys: the first, and the one that replaced it.
    assert (ended.code, ended.data["encrypted"], ended.data["unreadable"]) == (0, 3 + 2 + 2, 0)
    assert [read_comfort(owner=user).customer_id for user in others] == ["ben", "cleo"]
    SigningKey.objects.filter(pk=key.pk).update(signs_from=key.created_at)
    assert current_signer().kid == key.kid
    for endpoint, secret in endpoints:
        endpoint.refresh_from_db()
        assert decrypt(endpoint.secret, purpose="webhookendpoint.secret", context=endpoint.pk) == secret
    Comfort.objects.filter(pk=owner.basket_id).update(customer_id=Comfort.objects.get(pk=others[0].basket_id).customer_id)
    SigningKey.objects.filter(pk=key.pk).update(private_key=SigningKey.objects.exclude(pk=key.pk).get().private_key)
    WebhookEndpoint.objects.update(secret=endpoints[0][0].secret)
    before = {model: list(model._default_manager.order_by("pk").values()) for model, _, _ in ENCRYPTED_FIELDS}
    tried = run("reencrypt_secrets", "--dry-run", "--json")
    assert (tried.code, tried.data["encrypted"], tried.data["unreadable"]) == (1, 2 + 1 + 1, 3)
    assert {model: list(model._default_manager.order_by("pk").values()) for model, _, _ in ENCRYPTED_FIELDS} == before


def test_every_column_that_may_hold_a_secret_is_looked_at() -> None:
    listed = {(model, field) for model, fields, _ in ENCRYPTED_FIELDS for field in fields}
    # What is compared and never read again.
    digests = {"digest", "fingerprint"}
    columns = {
        (model, field.name)
        for model in apps.get_app_config("baskets").get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.BinaryField) and field.name not in digests
    }
    assert columns == listed
