"""Stored secrets, encrypted anew with the first key, so that an older one can be taken away."""

from dataclasses import dataclass
from typing import Any

from django.db import models

from baskets.db.transactions import in_transaction
from baskets.encryption import UnreadableSecret, reencrypt
from baskets.models import Comfort, SecondFactor, SigningKey, WebhookEndpoint

BATCH = 200

# Every column that `baskets.encryption` writes, and the field whose value binds its ciphertexts to their row.
ENCRYPTED_FIELDS: tuple[tuple[type[models.Model], tuple[str, ...], str], ...] = (
    (Comfort, ("customer_id", "payment_token"), "pk"),
    (SecondFactor, ("secret",), "pk"),
    (SigningKey, ("private_key",), "kid"),
    (WebhookEndpoint, ("secret",), "pk"),
)


@dataclass(frozen=True, kw_only=True)
class ReencryptionResult:
    """What one step did.

    :param done: rows encrypted anew.
    :param unreadable: rows whose key is unknown, or whose secret belongs to another row; they are left as they are.
    :param last: the greatest row, to go on from; None where nothing is left.
    """

    done: int
    unreadable: int
    last: Any


def reencrypt_batch(
    model: type[models.Model], fields: tuple[str, ...], identity: str, *, after: Any = None, dry_run: bool = False
) -> ReencryptionResult:
    """Encrypt one batch of rows anew, in one transaction.

    Locks at most 200 rows of the model by primary key, and nothing else. Source: `baskets/docs/operations.md`.

    :param identity: the field whose value the ciphertexts are bound to.
    :param after: rows up to this primary key have been seen.
    :param dry_run: only try whether the rows can be read.
    """

    def step() -> ReencryptionResult:
        rows = model._default_manager.order_by("pk").select_for_update(of=("self",), no_key=True)  # noqa: SLF001 (Django's documented name)
        if after is not None:
            rows = rows.filter(pk__gt=after)
        done, unreadable, last = 0, 0, None
        for row in rows[:BATCH]:
            last = row.pk
            try:
                for field in fields:
                    if (stored := getattr(row, field)) is not None:
                        purpose = f"{model._meta.model_name}.{field}"  # noqa: SLF001 (Django's documented name)
                        setattr(row, field, reencrypt(stored, purpose=purpose, context=getattr(row, identity)))
            except UnreadableSecret:
                unreadable += 1
                continue
            done += 1
            if not dry_run:
                row.save(update_fields=fields)
        return ReencryptionResult(done=done, unreadable=unreadable, last=last)

    return in_transaction(step)
