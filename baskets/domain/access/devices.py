"""The devices that handle a basket as guests: listed, and shut out one by one by revoking their tokens."""

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction
from django.db.models.functions import Now

from baskets.domain.actors import Actor
from baskets.domain.baskets.store import lock_and_read, record_event, write_lists
from baskets.domain.errors import BasketNotFound, DeviceNotFound
from baskets.domain.support.guards import RepairNotApplicable, lock_if_unchanged, record_repair
from baskets.models import Event, GuestToken, Transfer
from baskets.models.basket_snapshot import BasketSnapshot, Owner

MAX_LISTED = 200


def list_devices(*, owner: Owner) -> Sequence[GuestToken]:
    """Read the devices whose tokens have not expired, revoked ones included, the newest first.

    :returns: at most `MAX_LISTED`; none where the user has no basket.
    """
    rows = GuestToken.objects.filter(basket_id=owner.basket_id, expires_at__gt=Now())
    return list(rows.order_by("-created_at", "pk")[:MAX_LISTED])


@transaction.atomic(savepoint=False)
def revoke_device(*, owner: Owner, device_id: UUID, actor: Actor) -> None:
    """Revoke the token of one device, from its next call on. A revoked one stays so, and nothing changes.

    Locks the basket. Source: ADR 40.

    :param device_id: the `jti` of the token.
    :raises BasketNotFound: the user has no basket.
    :raises DeviceNotFound: the basket has no such device.
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
    """Revoke the token of one device, as staff.

    Locks the basket. Other parameters and refusals as `checkout_repairs.finish_as_ordered`.

    :raises RepairNotApplicable: it was revoked before, or is gone.
    """
    contents = lock_if_unchanged(device.basket_id, expected_events=expected_events, reason=reason)
    now = GuestToken.objects.filter(pk=device.pk, basket_id=contents.basket_id, revoked_at__isnull=True).first()
    if now is None:
        raise RepairNotApplicable("The device was revoked before.")
    _revoke(now, contents=contents, actor=actor)
    record_repair(contents, "revoke_device", reason, actor, deviceId=str(now.pk))


def _revoke(device: GuestToken, *, contents: BasketSnapshot, actor: Actor) -> None:
    """Revoke a token, and end the open offers of the basket: the device may have made one, to come back by."""
    Transfer.objects.filter(basket_id=contents.basket_id, redeemed_at__isnull=True).delete()
    device.revoked_at, device.revoked_by = contents.at, actor.name
    device.save(update_fields=["revoked_at", "revoked_by"])
    after = write_lists(before=contents, after=contents)
    record_event(contents=after, kind=Event.Kind.DEVICE_REVOKED, actor=actor, data={"deviceId": str(device.pk)})
