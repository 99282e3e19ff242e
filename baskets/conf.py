"""Typed access to the settings of the service. The values are defined in `basket_project.settings`.

Each is a function, because a constant would be read at import, before a test can override the setting. It converts the value once.
"""

import functools
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

from django.conf import settings
from django.core.signals import setting_changed

T = TypeVar("T")


def _converted(convert: Callable[[Any], T], name: str) -> Callable[[], T]:
    read = functools.cache(lambda: convert(getattr(settings, name)))
    setting_changed.connect(lambda **_: read.cache_clear(), weak=False)
    return read


def _seconds(name: str) -> Callable[[], timedelta]:
    return _converted(lambda seconds: timedelta(seconds=seconds), name)


def _number(name: str) -> Callable[[], int]:
    return _converted(int, name)


def _switch(name: str) -> Callable[[], bool]:
    return _converted(bool, name)


def _text(name: str) -> Callable[[], str]:
    return _converted(str, name)


def _texts(name: str) -> Callable[[], list[str]]:
    return lambda: list(getattr(settings, name))


# How long a checkout session holds its stock, unless the partner has its own setting.
hold_duration = _seconds("BASKETS_HOLD_SECONDS")
# How far into the future staff can extend the hold of an active checkout at once.
hold_extension = _seconds("BASKETS_HOLD_EXTENSION_SECONDS")
# How often staff can extend the hold of one checkout. 0: never.
hold_extensions = _number("BASKETS_HOLD_EXTENSIONS")
# The reasons that forms offer: for repairs of baskets and orders, for changes of stock, and for changes of partners, keys, issuers and
# webhooks. Empty: staff write each reason.
repair_reasons = _texts("BASKETS_REPAIR_REASONS")
stock_reasons = _texts("BASKETS_STOCK_REASONS")
access_reasons = _texts("BASKETS_ACCESS_REASONS")
# How long after an abort, or after the end of its hold, a session can still become a late order.
grace_period = _seconds("BASKETS_GRACE_SECONDS")
# How long a basket lives after its last change; a guest basket after its creation.
basket_lifetime = _seconds("BASKETS_LIFETIME_SECONDS")
# How long a guest's token is valid.
guest_token_lifetime = _seconds("BASKETS_GUEST_TOKEN_SECONDS")
# How long a new signing key for guests is published before it signs.
guest_key_publication = _seconds("BASKETS_GUEST_KEY_PUBLICATION_SECONDS")
# The number of items up to which the cart accepts additions.
cart_limit = _number("BASKETS_CART_LIMIT")
# The number of items up to which the saved list accepts additions.
saved_limit = _number("BASKETS_SAVED_LIMIT")
# The maximum number of pieces of one product in a request.
piece_limit = _number("BASKETS_PIECE_LIMIT")
# The maximum number of products in one request for details.
details_limit = _number("BASKETS_DETAILS_LIMIT")
# The maximum length of a request body.
body_limit_bytes = _number("BASKETS_BODY_LIMIT_BYTES")


def public_url() -> str:
    """The URL of the service as callers see it, without a trailing slash. Empty: the URL of the request is used."""
    return str(settings.BASKETS_PUBLIC_URL).rstrip("/")


# Whether a device that received a basket by transfer can transfer it again.
transferred_guests_may_transfer = _switch("BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER")
# The keys for stored secrets; the first one encrypts. Empty: keys are derived from the Django secret key.
encryption_keys = _texts("BASKETS_ENCRYPTION_KEYS")
# How long a webhook receiver has to respond.
webhook_timeout = _seconds("BASKETS_WEBHOOK_TIMEOUT_SECONDS")
# How long a webhook can fail before delivery stops.
webhook_give_up_after = _seconds("BASKETS_WEBHOOK_PATIENCE_SECONDS")
# How many webhooks a partner may have for its keys to create another one.
webhooks_per_partner = _number("BASKETS_WEBHOOKS_PER_PARTNER")
# How many requests of one process may wait for events of the feed. 0: none waits.
feed_waiters = _number("BASKETS_FEED_WAITERS")
# Whether URLs of partners may lead to internal hosts, to any port, and over plain HTTP: for tests and closed networks.
internal_addresses_allowed = _switch("BASKETS_INTERNAL_ADDRESSES")


def outgoing_ports() -> list[int]:
    """The ports that URLs of partners may have in addition to 80, 443 and those from 8000 up."""
    return list(settings.BASKETS_OUTGOING_PORTS)


# The token that a monitoring system sends to read `/metrics`. Empty: the page does not exist.
metrics_token = _text("BASKETS_METRICS_TOKEN")
# The ids of the products whose sales and stock `/metrics` shows. Each is the value of a label, so there are few.
metrics_products = _texts("BASKETS_METRICS_PRODUCTS")
# The maximum number of calls per minute for a key that has no limit itself. 0: unlimited.
calls_per_minute = _number("BASKETS_CALLS_PER_MINUTE")
# The number of bad keys and tokens per minute and source that get the detailed error. 0: unlimited.
failures_per_minute = _number("BASKETS_FAILURES_PER_MINUTE")
# The maximum number of checkouts that a user starts per hour. 0: unlimited.
starts_per_hour = _number("BASKETS_STARTS_PER_HOUR")
# The maximum number of pieces of one limited product in a checkout. 0: unlimited.
pieces_per_checkout = _number("BASKETS_PIECES_PER_CHECKOUT")
# The share of a product's unsold pieces that the checkouts of one partner can hold at once. 0: unlimited.
partner_share_percent = _number("BASKETS_PARTNER_SHARE_PERCENT")


def client_limit(what: str, *, per: str) -> int:
    """The maximum number of guests, starts or pieces per window for a client key or for a source of such keys. 0: unlimited.

    :param what: `"guests"`, `"starts"` or `"pieces"`.
    :param per: `"key"` or `"source"`.
    """
    return int(getattr(settings, f"BASKETS_{what.upper()}_PER_{per.upper()}"))


# The window in which guests, starts and pieces are counted.
client_limit_window = _seconds("BASKETS_CLIENT_LIMIT_SECONDS")
# The age up to which a guest counts as new.
new_guest_age = _seconds("BASKETS_NEW_GUEST_SECONDS")
# The maximum number of pieces of limited products in a new guest's checkout with a client key. 0: unlimited.
new_guest_pieces = _number("BASKETS_NEW_GUEST_PIECES")
# The number of failed sign-ins to the admin per window, for one name from one source. 0: unlimited.
login_failures = _number("BASKETS_LOGIN_FAILURES")
# The window in which failed sign-ins are counted, and so the longest time that a sign-in stays blocked.
login_window = _seconds("BASKETS_LOGIN_WINDOW_SECONDS")
# The maximum duration of an admin session.
staff_session_lifetime = _seconds("BASKETS_STAFF_SESSION_SECONDS")
# How long an admin session lasts without a request.
staff_idle_timeout = _seconds("BASKETS_STAFF_IDLE_SECONDS")
# The groups whose members need a second factor; `superusers` stands for all superusers.
second_factor_roles = _texts("BASKETS_SECOND_FACTOR_ROLES")


def client_address_header() -> str:
    """The header in which a trusted proxy reports the client's address.

    :returns: the WSGI name, for example `HTTP_X_FORWARDED_FOR`. Empty: no header is trusted.
    """
    name = settings.BASKETS_CLIENT_ADDRESS_HEADER
    return f"HTTP_{name.upper().replace('-', '_')}" if name else ""


# The number of trusted proxies that each append an entry to the client address header.
trusted_proxies = _number("BASKETS_TRUSTED_PROXIES")
# How long the response to an Idempotency-Key is stored.
idempotency_window = _seconds("BASKETS_IDEMPOTENCY_SECONDS")
# The number of this cell, from 1. 0: the installation has no cells.
cell = _number("BASKETS_CELL")
# The aliases of the databases of all cells, in the order of their numbers. Empty: no command sees several cells.
cell_databases = _texts("BASKETS_CELL_DATABASES")
# The path of the file that names the cell of each slot.
slot_map_file = _text("BASKETS_SLOT_MAP")
