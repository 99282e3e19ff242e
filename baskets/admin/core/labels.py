"""The words for what the service records as codes: reasons, names of event values, and authors. Every page of the admin uses them.

Statuses and kinds have their words in the models, beside the stored values.
"""

import re
from typing import Any

from django.utils.translation import gettext_lazy as _

from baskets.domain.actors import ActorKind
from baskets.models import ApiKey, Attention, BasketItem

# Names of values of events.
VALUE_NAMES = {
    "productId": _("product"),
    "list": _("list"),
    "count": _("count"),
    "items": _("items"),
    "released": _("released"),
    "reason": _("reason"),
    "reasons": _("reasons"),
    "cause": _("cause"),
    "repair": _("repair"),
    "note": _("note"),
    "orderNo": _("order number"),
    "testMode": _("test"),
    "acceptShort": _("short pieces accepted"),
    "failed": _("not ordered, back in the cart"),
    "orderNoReported": _("order number reported"),
    "deviceId": _("device"),
    "returned": _("back in stock"),
    "session_id": _("app session"),
    "start_time": _("app started"),
}
REASONS = dict(Attention.Reason.choices)
LISTS = dict(BasketItem.List.choices)
# Commands and other parts of the service, by the name that they record.
SYSTEM_ACTORS = {
    "expire_baskets": _("the sweep"),
    "reclaim of lapsed holds": _("the service, for a checkout that needed the stock"),
    "expiry on demand": _("the service, because the hold was over"),
    "attention": _("the service, because there were too many flags"),
    "purge_history": _("the purge"),
    "import_products": _("the catalog import"),
    "check_baskets": _("the check of the rules"),
    "deliver_webhooks": _("the delivery of webhooks"),
    "load_demo": _("the demo"),
    "createsuperuser": _("an operator, by createsuperuser"),
    "changepassword": _("an operator, by changepassword"),
    "sign-in": _("the sign-in"),
}
ACTOR_KINDS = {ActorKind.KEY.value: _("a partner's software"), ActorKind.STAFF.value: _("staff"), ActorKind.SYSTEM.value: _("the service")}
KEY_KINDS = {ApiKey.Kind.SERVER.value: _("back end"), ApiKey.Kind.CLIENT.value: _("app")}
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def value_name(name: str) -> str:
    """Name a value of an event; a name without a label is split into its words."""
    return str(VALUE_NAMES.get(name, "")) or CAMEL_CASE.sub(" ", name).replace("_", " ").lower()


def value_text(name: str, stored: Any) -> Any:
    """Write a value of an event in words if it is a code."""
    if isinstance(stored, str) and name == "reason":
        return str(REASONS.get(stored, stored))
    if name == "list":
        return str(LISTS.get(stored, stored))
    return stored.replace("_", " ") if isinstance(stored, str) and name == "repair" else stored
