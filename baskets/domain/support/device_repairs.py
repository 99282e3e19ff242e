"""Repairs of the devices of a guest's basket by staff."""

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.baskets.devices import revoke_locked
from baskets.domain.support.guards import RepairNotApplicable, lock_if_unchanged, record_repair
from baskets.domain.wording import sentence
from baskets.models import GuestToken


@transaction.atomic(savepoint=False)
def revoke_device(*, device: GuestToken, expected_events: int, reason: str, actor: Actor) -> None:
    """Revoke the token of one device, as staff, and record the repair in the timeline.

    Locks the basket.

    :param expected_events: the number of events of the basket that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the token was revoked before, or no longer exists, or the basket no longer exists.
    """
    snapshot = lock_if_unchanged(device.basket_id, expected_events=expected_events, reason=reason)
    active = GuestToken.objects.filter(pk=device.pk, basket_id=snapshot.basket_id, revoked_at__isnull=True).first()
    if active is None:
        raise RepairNotApplicable(sentence("The device was revoked before."))
    revoke_locked(active, snapshot=snapshot, actor=actor)
    record_repair(snapshot, "revoke_device", reason, actor, deviceId=str(active.pk))
