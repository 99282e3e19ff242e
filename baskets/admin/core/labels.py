"""The words for what the service records as codes: reasons, names of event values, and authors. Every page of the admin uses them.

Statuses and kinds have their words in the models, beside the stored values.
"""

import re
from collections.abc import Callable
from typing import Any

from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core.languages import Text
from baskets.domain.actors import ActorKind
from baskets.domain.checkout.attention import COMMENTS, MAX_OPEN, Cause
from baskets.models import ApiKey, Attention, BasketItem, Event, Partner

# Names of values of events.
VALUE_NAMES = {
    "productId": _("product"),
    "list": _("list"),
    "count": _("count"),
    "items": _("items"),
    "cart": _("cart"),
    "saved": _("saved"),
    "short": _("short"),
    "candidates": _("possible checkouts"),
    "source": _("source"),
    "second_factor": _("second factor"),
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
    "late_orders": _("a late order without stock"),
    "hold_seconds": _("hold"),
    "share_percent": _("share of a product"),
    "orders_need_server_key": _("only server keys report orders"),
    "origins": _("web origins"),
    "calls_per_minute": _("calls a minute"),
    "kind": _("kind"),
    "label": _("label"),
    "expires_at": _("valid until"),
    "name": _("name"),
    "pieces": _("pieces"),
    "rows": _("rows"),
    "asked": _("search and filters"),
    "matter": _("flag"),
    "basket": _("basket"),
    "q": _("search"),
    "available": _("available"),
    "unsold": _("unsold pieces"),
    "other_cell": _("the other cell"),
}
REASONS = dict(Attention.Reason.choices)
EVENT_KINDS = dict(Event.Kind.choices)
# What a list shows unless another choice is made, as the entry of an export has it.
FLAGS = {"open": _("open"), "settled": _("resolved"), "all": _("all")}
BASKETS = {"shown": _("open"), "hidden": _("deleted or expired"), "all": _("all")}
# Why calls of the API are refused.
CALL_REASONS = {
    "api_key_invalid": _("API key invalid"),
    "api_key_missing": _("API key missing"),
    "bad_request": _("Bad request"),
    "basket_not_found": _("Basket not found"),
    "body_too_large": _("Body too large"),
    "busy": _("Busy"),
    "cart_empty": _("Cart empty"),
    "cart_full": _("Cart full"),
    "checkout_aborted": _("Checkout aborted"),
    "checkout_active": _("Checkout active"),
    "checkout_already_ordered": _("Checkout already ordered"),
    "checkout_expired": _("Checkout expired"),
    "consent_missing": _("Consent missing"),
    "database_unavailable": _("Database unavailable"),
    "device_unknown": _("Device unknown"),
    "events_purged": _("Events purged"),
    "events_rewound": _("Events rewound"),
    "guest_not_allowed": _("Guest not allowed"),
    "header_too_large": _("Header too large"),
    "idempotency_key_reused": _("Idempotency key reused"),
    "internal_error": _("Internal error"),
    "method_not_allowed": _("Method not allowed"),
    "no_active_checkout": _("No active checkout"),
    "not_acceptable": _("Not acceptable"),
    "not_found": _("Not found"),
    "nothing_to_replay": _("Nothing to replay"),
    "order_unknown": _("Order unknown"),
    "outcome_unknown": _("Outcome unknown"),
    "out_of_stock": _("Out of stock"),
    "overloaded": _("Overloaded"),
    "product_not_in_basket": _("Product not in basket"),
    "product_unknown": _("Product unknown"),
    "request_timeout": _("Request timeout"),
    "saved_full": _("Saved list full"),
    "server_key_required": _("Server key required"),
    "signing_key_unreadable": _("Signing key unreadable"),
    "throttled": _("Throttled"),
    "token_expired": _("Token expired"),
    "token_invalid": _("Token invalid"),
    "token_keys_unavailable": _("Token keys unavailable"),
    "token_missing": _("Token missing"),
    "token_user_mismatch": _("Token of another user"),
    "transfer_not_allowed": _("Transfer not allowed"),
    "unsupported_media_type": _("Unsupported media type"),
    "uri_too_long": _("URI too long"),
    "validation_failed": _("Validation failed"),
    "version_unsupported": _("Version unsupported"),
    "webhook_unknown": _("Webhook unknown"),
    "webhooks_full": _("Too many webhooks"),
    "wrong_cell": _("Wrong cell"),
}
# Why flags were resolved.
CAUSES = {
    Cause.ORDERED.value: _("ordered"),
    Cause.REVERSED.value: _("reversed"),
    Cause.MERGED.value: _("merged"),
    Cause.STAFF.value: _("staff"),
}
LATE_ORDERS = dict(Partner.LateOrders.choices)
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


def call_reason(reason: str) -> str:
    """Name the reason of a refused call; one without a label is split into its words."""
    return str(CALL_REASONS.get(reason, "")) or reason.replace("_", " ").capitalize()


def flag_comment(stored: str) -> str:
    """Translate the comment of a flag that the service has resolved. That of staff stays unchanged."""
    number = {"number": MAX_OPEN}
    return next((gettext(text) % number for text in COMMENTS.values() if text % number == stored), stored)


def value_text(name: str, stored: Any) -> Any:
    """Write a stored value in words if it is a code or a setting."""
    if name in SETTINGS:
        return str(SETTINGS[name](stored))
    if isinstance(stored, str) and name == "repair":
        return stored.replace("_", " ")
    if isinstance(stored, list) and name == "kinds":
        return [str(EVENT_KINDS.get(kind, kind)) for kind in stored]
    if isinstance(stored, list) and name == "reasons":
        return [str(REASONS.get(reason, reason)) for reason in stored]
    words = {
        "reason": REASONS,
        "matter": REASONS | FLAGS,
        "basket": BASKETS,
        "list": LISTS,
        "late_orders": LATE_ORDERS,
        "cause": CAUSES,
    }.get(name, {})
    return str(words[stored]) if isinstance(stored, str) and stored in words else stored


def _seconds(stored: int) -> str:
    return f"{stored} s" if stored % 60 else f"{stored // 60} min"


def _limit(write: Callable[[int], str]) -> Callable[[int | None], Text]:
    """Write a setting of which none means the default of the service, and 0 no limit."""
    return lambda stored: write(stored) if stored else _("default of the service") if stored is None else _("no limit")


SETTINGS = {
    "hold_seconds": _limit(_seconds),
    "share_percent": _limit(lambda stored: f"{stored} %"),
    "calls_per_minute": _limit(str),
}
