"""All repairs of the admin, by the kind of record.

To add one, subclass `Repair` or the base class of its record in the module of its noun, and list an instance in the tuple of that module.
A new slug also needs a permission: in `Meta.permissions` of the model, and granted to a group by a migration.
"""

from baskets.admin.repairs.baskets import BASKET_REPAIRS, DEVICE_REPAIRS
from baskets.admin.repairs.checkouts import ATTENTION_REPAIRS, RESERVATION_REPAIRS, SESSION_REPAIRS
from baskets.admin.repairs.invariants import RULE_REPAIRS
from baskets.admin.repairs.partners import PARTNER_REPAIRS
from baskets.admin.repairs.products import PRODUCT_REPAIRS
from baskets.admin.repairs.webhooks import WEBHOOK_REPAIRS

ALL_REPAIRS = (
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
    "WEBHOOK_REPAIRS",
]
