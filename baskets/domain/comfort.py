"""A user's comfort settings: stored while the user consents, and shown to that user alone. Knows nothing of baskets."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from django.db import transaction
from django.db.models import F
from django.db.models.functions import Greatest, Now

from baskets.domain.errors import ConsentMissing
from baskets.encryption import decrypt, encrypt
from baskets.models import Comfort
from baskets.models.basket_snapshot import Owner

ComfortField = Literal["customer_id", "payment_token"]


@dataclass(frozen=True, kw_only=True)
class ComfortSettings:
    """The stored settings of a user; all None for a user who has not consented."""

    customer_id: str | None = None
    payment_token: str | None = None
    consented_at: datetime | None = None


@transaction.atomic(savepoint=False)
def change_comfort(*, owner: Owner, values: Mapping[ComfortField, str | None], consent: bool | None) -> None:
    """Store or delete the fields that a request names, and keep the others.

    The time of the first consent is kept. Withdrawing the consent deletes all fields.
    Locks the user's row. Source: `updatecomfortbasketsettings` of the published API; ADR 21.

    :param values: the new value of each field the request names; None deletes that field.
    :param consent: True gives it, False withdraws it, None does not change it.
    :raises ConsentMissing: there is a value to store, and no consent.
    """
    stored = Comfort.objects.filter(pk=owner.basket_id)
    has_value = any(value is not None for value in values.values())
    if consent is False:
        if has_value:
            raise ConsentMissing
        stored.delete()
        return
    encrypted = {
        name: None if value is None else encrypt(value, purpose=f"comfort.{name}", context=owner.basket_id)
        for name, value in values.items()
    }
    while not stored.update(**encrypted, changed_at=Greatest(Now(), F("consented_at"))):
        if not consent:
            if has_value:
                raise ConsentMissing
            return
        # A consent that another call withdraws between these two statements is given again by this call.
        fresh = Comfort(basket_id=owner.basket_id, consented_at=Now(), changed_at=Now())
        Comfort.objects.bulk_create([fresh], ignore_conflicts=True)


def read_comfort(*, owner: Owner) -> ComfortSettings:
    """Read the stored settings of a user.

    :raises UnreadableSecret: it was encrypted with an unknown key, or for another user or field.
    """
    stored = Comfort.objects.filter(pk=owner.basket_id).first()
    if stored is None:
        return ComfortSettings()

    def read(field: ComfortField) -> str | None:
        value = getattr(stored, field)
        return None if value is None else decrypt(value, purpose=f"comfort.{field}", context=stored.pk)

    return ComfortSettings(customer_id=read("customer_id"), payment_token=read("payment_token"), consented_at=stored.consented_at)
