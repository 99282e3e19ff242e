"""A user's comfort settings: kept while the user consents, read by nobody but the user. Baskets are none of their business."""

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

Field = Literal["customer_id", "payment_token"]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is stored for a user; all None for a user who has not consented."""

    customer_id: str | None = None
    payment_token: str | None = None
    consented_at: datetime | None = None


@transaction.atomic(savepoint=False)
def change_comfort(*, owner: Owner, said: Mapping[Field, str | None], consent: bool | None) -> None:
    """Store or delete what the user says, and keep the rest.

    Consent is kept since it was first given. Taking it back deletes everything.
    Locks the user's row. Source: `updatecomfortbasketsettings` of the published API; ADR 21.

    :param said: the new value of each field that is spoken of; None deletes it.
    :param consent: given, taken back, or not spoken of.
    :raises ConsentMissing: there is something to store, and no consent.
    """
    stored = Comfort.objects.filter(pk=owner.basket_id)
    something = any(value is not None for value in said.values())
    if consent is False:
        if something:
            raise ConsentMissing
        stored.delete()
        return
    values = {
        name: None if value is None else encrypt(value, purpose=f"comfort.{name}", context=owner.basket_id) for name, value in said.items()
    }
    while not stored.update(**values, changed_at=Greatest(Now(), F("consented_at"))):
        if not consent:
            if something:
                raise ConsentMissing
            return
        # Who takes the consent back between these two statements came first: it is given anew.
        fresh = Comfort(basket_id=owner.basket_id, consented_at=Now(), changed_at=Now())
        Comfort.objects.bulk_create([fresh], ignore_conflicts=True)


def read_comfort(*, owner: Owner) -> Settings:
    """Read what is stored for a user.

    :raises UnreadableSecret: it was encrypted with an unknown key, or for another user or field.
    """
    stored = Comfort.objects.filter(pk=owner.basket_id).first()
    if stored is None:
        return Settings()

    def read(field: Field) -> str | None:
        value = getattr(stored, field)
        return None if value is None else decrypt(value, purpose=f"comfort.{field}", context=stored.pk)

    return Settings(customer_id=read("customer_id"), payment_token=read("payment_token"), consented_at=stored.consented_at)
