"""Changes of a partner's settings by staff, who have seen the current settings. The settings are in `access.partners`."""

from django.db import transaction

from baskets.domain import audit_log
from baskets.domain.access import partners
from baskets.domain.actors import Actor
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.validation import require_reason
from baskets.domain.wording import sentence
from baskets.models import Partner


@transaction.atomic(savepoint=False)
def change_settings(*, partner: Partner, values: partners.PartnerSettings, expected_entry: int, reason: str, actor: Actor) -> None:
    """Change settings of a partner, from the next call on. Locks the partner.

    :param values: the settings to change, by name; the others stay.
    :param expected_entry: the last entry of the audit log about the partner that staff have seen, see `last_entry`.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the partner was changed since.
    :raises InvalidValue: a value is out of range.
    :raises RepairNotApplicable: the partner has these settings already.
    """
    require_reason(reason)
    row = Partner.objects.locked().get(pk=partner.pk)
    since = audit_log.entries_about(partners.ABOUT, row.name).filter(pk__gt=expected_entry)
    if changes := list(since.order_by("pk")):
        raise StaleState(since=changes)
    if not partners.change_settings(partner_name=row.name, values=values, reason=reason, actor=actor):
        raise RepairNotApplicable(sentence("The partner has these settings already."))


def last_entry(partner: Partner) -> int:
    """Read the last entry of the audit log about a partner: its version, for `expected_entry`; 0 for none."""
    entries = audit_log.entries_about(partners.ABOUT, partner.name)
    return entries.order_by("-pk").values_list("pk", flat=True).first() or 0
