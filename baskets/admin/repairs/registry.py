"""All repairs of the admin, by the kind of record.

To add one, subclass `Repair` or the base class of its record in the module of its noun, and list an instance in the tuple of that module.
A new slug also needs a permission: in `Meta.permissions` of the model, and granted to a group by a migration.
"""

from typing import Any

from django.utils.translation import gettext_lazy as _

from baskets.admin.core.languages import Text
from baskets.admin.repairs.baskets import BASKET_REPAIRS, DEVICE_REPAIRS, ResolveAllFlags
from baskets.admin.repairs.checkouts import ATTENTION_REPAIRS, RESERVATION_REPAIRS, SESSION_REPAIRS, ResolveFlag
from baskets.admin.repairs.definitions import Repair
from baskets.admin.repairs.invariants import RULE_REPAIRS
from baskets.admin.repairs.partners import PARTNER_REPAIRS
from baskets.admin.repairs.products import PRODUCT_REPAIRS
from baskets.admin.repairs.webhooks import WEBHOOK_REPAIRS
from baskets.models import Event

ALL_REPAIRS: tuple[Repair[Any], ...] = (
    *SESSION_REPAIRS,
    *RESERVATION_REPAIRS,
    *ATTENTION_REPAIRS,
    *BASKET_REPAIRS,
    *DEVICE_REPAIRS,
    *PARTNER_REPAIRS,
    *PRODUCT_REPAIRS,
    *RULE_REPAIRS,
    *WEBHOOK_REPAIRS,
)
# By the name of a repair in the timeline and the journal.
TITLES: dict[str, Text] = {repair.slug.replace("-", "_"): repair.title for repair in ALL_REPAIRS} | {
    "note": _("Note"),
    "settle": ResolveFlag.title,
    "settle_all": ResolveAllFlags.title,
    "take_stock": _("Take stock"),
}


def what_happened(event: Event) -> Text:
    """Name an event of a timeline; a repair by what it was."""
    return TITLES.get(event.data.get("repair", ""), event.get_kind_display())


__all__ = [
    "ALL_REPAIRS",
    "ATTENTION_REPAIRS",
    "BASKET_REPAIRS",
    "DEVICE_REPAIRS",
    "PARTNER_REPAIRS",
    "PRODUCT_REPAIRS",
    "RESERVATION_REPAIRS",
    "RULE_REPAIRS",
    "SESSION_REPAIRS",
    "TITLES",
    "WEBHOOK_REPAIRS",
    "what_happened",
]
