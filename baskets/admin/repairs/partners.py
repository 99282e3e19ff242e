"""The change of a partner's settings. It is a repair in form: a preview, a reason, and a page that must not be stale."""

from django.utils.translation import gettext_lazy as _

from baskets.admin.repairs import snapshots
from baskets.admin.repairs.definitions import KnownFacts, Repair, RepairCall
from baskets.admin.repairs.partner_forms import PartnerSettingsForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.domain.support import partner_repairs
from baskets.models import Partner


class ChangePartnerSettings(Repair[Partner]):
    """Changes the settings of a partner. It takes Django's permission to change partners, which no role has by default."""

    slug = "change-settings"
    title = _("Change the settings")
    done = _("The settings were changed.")
    description = _(
        "The settings apply from the next call on, web origins within seconds. A running checkout keeps its hold; a late order"
        " follows the rule of the moment when it is reported."
    )
    form_class = PartnerSettingsForm
    permission = "baskets.change_partner"

    def is_available(self, record: Partner, known: KnownFacts) -> bool:
        return True

    def snapshot(self, record: Partner) -> Snapshot:
        return snapshots.of_partner(record)

    def version(self, record: Partner) -> int:
        return partner_repairs.last_entry(record)

    def version_scope(self, record: Partner) -> object:
        return record.pk

    def execute(self, record: Partner, call: RepairCall) -> None:
        partner_repairs.change_settings(
            partner=record,
            values={
                "late_orders": call.cleaned["late_orders"],
                "hold_seconds": call.cleaned["hold"],
                "share_percent": call.cleaned["share_percent"],
                "orders_need_server_key": call.cleaned["orders_need_server_key"],
                "origins": call.cleaned["origins"],
            },
            expected_entry=call.expected_version,
            reason=call.reason,
            actor=call.actor,
        )

    def label(self, record: Partner) -> str:
        return record.name


PARTNER_REPAIRS: tuple[Repair[Partner], ...] = (ChangePartnerSettings(),)
