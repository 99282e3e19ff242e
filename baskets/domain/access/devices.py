"""The devices of a guest's basket: lists them, and revokes the token of one."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, write_lists
from baskets.domain.baskets.timeline import record_event
from baskets.domain.errors import BasketNotFound, DeviceNotFound
from baskets.domain.support.guards import RepairNotApplicable, lock_if_unchanged, record_repair
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
    contents = lock_and_read(owner)
    if contents is None:
        raise BasketNotFound
    device = GuestToken.objects.filter(pk=device_id, basket_id=contents.basket_id).first()
    if device is None:
        raise DeviceNotFound
    if device.revoked_at is None:
        _revoke(device, contents=contents, actor=actor)


@transaction.atomic(savepoint=False)
def revoke_device_by_staff(*, device: GuestToken, expected_events: int, reason: str, actor: Actor) -> None:
    """Revoke the token of one device, as staff, and record the repair in the timeline.

    Locks the basket.

    :param expected_events: how many events the basket had when staff decided.
    :param reason: why, for the timeline.
    :raises ReasonRequired: the reason is empty.
    :raises StaleState: the basket has changed since staff decided.
    :raises RepairNotApplicable: the token was revoked before, or is deleted.
    """
    contents = lock_if_unchanged(device.basket_id, expected_events=expected_events, reason=reason)
    active = GuestToken.objects.filter(pk=device.pk, basket_id=contents.basket_id, revoked_at__isnull=True).first()
    if active is None:
        raise RepairNotApplicable("The device was revoked before.")
    _revoke(active, contents=contents, actor=actor)
    record_repair(contents, "revoke_device", reason, actor, deviceId=str(active.pk))


def _revoke(device: GuestToken, *, contents: BasketSnapshot, actor: Actor) -> None:
    """Revoke a token and delete the open transfers of the basket: the device may have created one to regain access."""
    Transfer.objects.filter(basket_id=contents.basket_id, redeemed_at__isnull=True).delete()
    device.revoked_at, device.revoked_by = contents.at, actor.name
    device.save(update_fields=["revoked_at", "revoked_by"])
    after = write_lists(before=contents, after=contents)
    record_event(contents=after, kind=Event.Kind.DEVICE_REVOKED, actor=actor, data={"deviceId": str(device.pk)})
