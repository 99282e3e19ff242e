"""The devices of a guest's basket: lists them, and revokes the token of one."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, write_lists
from baskets.domain.baskets.timeline import record_event
from baskets.domain.errors import BasketNotFound, DeviceNotFound
from baskets.models import Event, GuestToken, Transfer
from baskets.models.basket_snapshot import BasketSnapshot, Owner

MAX_LISTED = 200


def list_devices(*, owner: Owner) -> Sequence[GuestToken]:
    """Read the devices whose tokens have not expired, revoked ones included, the newest first.

    :returns: at most `MAX_LISTED` rows; none if the user has no basket.
    """
    rows = GuestToken.objects.filter(basket_id=owner.basket_id, expires_at__gt=Now())
    return list(rows.order_by("-created_at", "pk")[:MAX_LISTED])


@transaction.atomic(savepoint=False)
def revoke_device(*, owner: Owner, device_id: UUID, actor: Actor) -> None:
    """Revoke the token of one device, from its next call on. Does nothing if the token was revoked before.

    Locks the basket. Source: ADR 40.

    :param device_id: the `jti` of the token.
    :raises BasketNotFound: the user has no basket.
    :raises DeviceNotFound: the basket has no device of this id.
    """
    snapshot = lock_and_read(owner)
    if snapshot is None:
        raise BasketNotFound
    device = GuestToken.objects.filter(pk=device_id, basket_id=snapshot.basket_id).first()
    if device is None:
        raise DeviceNotFound
    if device.revoked_at is None:
        revoke_locked(device, snapshot=snapshot, actor=actor)


def revoke_locked(device: GuestToken, *, snapshot: BasketSnapshot, actor: Actor) -> None:
    """Revoke a token under the basket's lock, and delete the basket's open transfers, which the device could use to regain access."""
    Transfer.objects.filter(basket_id=snapshot.basket_id, redeemed_at__isnull=True).delete()
    device.revoked_at, device.revoked_by = snapshot.at, actor.name
    device.save(update_fields=["revoked_at", "revoked_by"])
    after = write_lists(before=snapshot, after=snapshot)
    record_event(snapshot=after, kind=Event.Kind.DEVICE_REVOKED, actor=actor, data={"deviceId": str(device.pk)})
