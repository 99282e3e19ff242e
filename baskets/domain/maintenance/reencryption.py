"""Re-encrypts stored secrets with the first encryption key, so that an older key can be removed."""

from dataclasses import dataclass
from typing import Any

from django.db import models

from baskets.db.transactions import run_in_transaction
from baskets.encryption import UnreadableSecret, reencrypt
from baskets.models import Comfort, SecondFactor, SigningKey, WebhookEndpoint
from baskets.models.locking import LockableQuerySet

BATCH = 200

# Every column that `baskets.encryption` writes, and the field whose value binds its ciphertexts to their row.
ENCRYPTED_FIELDS: tuple[tuple[type[models.Model], tuple[str, ...], str], ...] = (
    (Comfort, ("customer_id", "payment_token"), "pk"),
    (SecondFactor, ("secret",), "pk"),
    (SigningKey, ("private_key",), "kid"),
    (WebhookEndpoint, ("secret", "previous_secret"), "pk"),
)


@dataclass(frozen=True, kw_only=True)
class ReencryptionResult:
    """The result of one batch.

    :param done: how many rows were encrypted again.
    :param unreadable: how many rows have an unknown key or a secret of another row. They stay unchanged.
    :param last: the last primary key, for `after` of the next batch; None if no row is left.
    """

    done: int
    unreadable: int
    last: Any


def unreadable_tables() -> list[str]:
    """Return the tables whose latest row has a secret that no configured key decrypts: those of another installation or time.

    Reads one row of each.
    """
    found = []
    for model, fields, identity in ENCRYPTED_FIELDS:
        row = LockableQuerySet[models.Model](model).order_by("-pk").first()
        try:
            if row is not None:
                _reencrypt_row(row, fields, identity)
        except UnreadableSecret:
            found.append(model._meta.db_table)  # noqa: SLF001 (Django's documented name)
    return found


def _reencrypt_row(row: models.Model, fields: tuple[str, ...], identity: str) -> None:
    """Encrypt the secrets of one row again, in memory.

    :raises UnreadableSecret: no key decrypts one of them.
    """
    for field in fields:
        if (stored := getattr(row, field)) is not None:
            purpose = f"{row._meta.model_name}.{field}"  # noqa: SLF001 (Django's documented name)
            setattr(row, field, reencrypt(stored, purpose=purpose, context=getattr(row, identity)))


def reencrypt_batch(
    model: type[models.Model], fields: tuple[str, ...], identity: str, *, after: Any = None, dry_run: bool = False
) -> ReencryptionResult:
    """Encrypt one batch of rows again, in one transaction.

    Locks at most 200 rows of the model by primary key, and nothing else. Source: `baskets/docs/operations.md`.

    :param identity: the field whose value the ciphertexts are bound to.
    :param after: start after this primary key; None for the first batch.
    :param dry_run: only check whether the rows can be decrypted.
    """

    def step() -> ReencryptionResult:
        rows: LockableQuerySet[models.Model] = LockableQuerySet(model).locked()
        if after is not None:
            rows = rows.filter(pk__gt=after)
        done, unreadable, last = 0, 0, None
        for row in rows[:BATCH]:
            last = row.pk
            try:
                _reencrypt_row(row, fields, identity)
            except UnreadableSecret:
                unreadable += 1
                continue
            done += 1
            if not dry_run:
                row.save(update_fields=fields)
        return ReencryptionResult(done=done, unreadable=unreadable, last=last)

    return run_in_transaction(step)
