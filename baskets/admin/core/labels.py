"""The words for what the service records as codes: reasons, names of event values, and authors. Every page of the admin uses them.

Statuses and kinds have their words in the models, beside the stored values.
"""

import re
from typing import Any

from baskets.domain.actors import ActorKind
from baskets.models import ApiKey, Attention

# Names of values of events.
VALUE_NAMES = {
    "productId": "product",
    "orderNo": "order number",
    "testMode": "test",
    "acceptShort": "short pieces accepted",
    "failed": "not ordered, back in the cart",
    "orderNoReported": "order number reported",
    "deviceId": "device",
    "returned": "back in stock",
    "session_id": "app session",
    "start_time": "app started",
}
REASONS = dict(Attention.Reason.choices)
# Commands and other parts of the service, by the name that they record.
SYSTEM_ACTORS = {
    "expire_baskets": "the sweep",
    "reclaim of lapsed holds": "the service, for a checkout that needed the stock",
    "expiry on demand": "the service, because the hold was over",
    "attention": "the service, because there were too many flags",
    "purge_history": "the purge",
    "import_products": "the catalog import",
    "check_baskets": "the check of the rules",
    "deliver_webhooks": "the delivery of webhooks",
    "load_demo": "the demo",
    "sign-in": "the sign-in",
}
ACTOR_KINDS = {ActorKind.KEY.value: "a partner's software", ActorKind.STAFF.value: "staff", ActorKind.SYSTEM.value: "the service"}
KEY_KINDS = {ApiKey.Kind.SERVER.value: "back end", ApiKey.Kind.CLIENT.value: "app"}
CAMEL_CASE = re.compile(r"(?<=[a-z])(?=[A-Z])")


def value_name(name: str) -> str:
    """Name a value of an event; a name without a label is split into its words."""
    return VALUE_NAMES.get(name) or CAMEL_CASE.sub(" ", name).replace("_", " ").lower()


def value_text(name: str, stored: Any) -> Any:
    """Write a value of an event in words if it is a code."""
    if isinstance(stored, str) and name == "reason":
        return REASONS.get(stored, stored)
    return stored.replace("_", " ") if isinstance(stored, str) and name == "repair" else stored
