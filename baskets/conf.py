"""Typed access to the settings of the service. The values are defined in `basket_project.settings`.

Each is a function, because a constant would be read at import, before a test can override the setting. It converts the value once.
What each setting means is in `baskets/docs/operations.md`, under "Environment"; the comments here say only what its name does not.
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


# --- Baskets and checkouts ----------------------------------------------------

# Unless the partner has its own setting.
hold_duration = _seconds("BASKETS_HOLD_SECONDS")
# How far into the future staff can extend the hold of an active checkout at once, and how often; 0: never.
hold_extension = _seconds("BASKETS_HOLD_EXTENSION_SECONDS")
hold_extensions = _number("BASKETS_HOLD_EXTENSIONS")
# After an abort, or after the end of the hold.
grace_period = _seconds("BASKETS_GRACE_SECONDS")
# After the last change; of a guest's basket, after its creation.
basket_lifetime = _seconds("BASKETS_LIFETIME_SECONDS")
idempotency_window = _seconds("BASKETS_IDEMPOTENCY_SECONDS")
cart_limit = _number("BASKETS_CART_LIMIT")
saved_limit = _number("BASKETS_SAVED_LIMIT")
# Of one product in a request.
piece_limit = _number("BASKETS_PIECE_LIMIT")
details_limit = _number("BASKETS_DETAILS_LIMIT")
body_limit_bytes = _number("BASKETS_BODY_LIMIT_BYTES")

# --- Guests -------------------------------------------------------------------

guest_token_lifetime = _seconds("BASKETS_GUEST_TOKEN_SECONDS")
# How long a new signing key is published before it signs.
guest_key_publication = _seconds("BASKETS_GUEST_KEY_PUBLICATION_SECONDS")
transferred_guests_may_transfer = _switch("BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER")

# --- Limits; 0: unlimited -----------------------------------------------------

# Of a key that has no limit itself.
calls_per_minute = _number("BASKETS_CALLS_PER_MINUTE")
# The number of bad keys and tokens of one source that get the detailed error.
failures_per_minute = _number("BASKETS_FAILURES_PER_MINUTE")
# Of one user.
starts_per_hour = _number("BASKETS_STARTS_PER_HOUR")
# Of one limited product.
pieces_per_checkout = _number("BASKETS_PIECES_PER_CHECKOUT")
# The share of the unsold pieces of a product, unless the partner has its own.
partner_share_percent = _number("BASKETS_PARTNER_SHARE_PERCENT")


def client_limit(what: str, *, per: str) -> int:
    """The maximum number of guests, starts or pieces per window for a client key or for a source of such keys. 0: unlimited.

    :param what: `"guests"`, `"starts"` or `"pieces"`.
    :param per: `"key"` or `"source"`.
    """
    return int(getattr(settings, f"BASKETS_{what.upper()}_PER_{per.upper()}"))


client_limit_window = _seconds("BASKETS_CLIENT_LIMIT_SECONDS")
# The age up to which a guest is new, and the pieces that a checkout of a new guest with a client key may hold.
new_guest_age = _seconds("BASKETS_NEW_GUEST_SECONDS")
new_guest_pieces = _number("BASKETS_NEW_GUEST_PIECES")
# Failed sign-ins to the admin in a window, for one name from one source. A sign-in stays blocked for a window at most.
login_failures = _number("BASKETS_LOGIN_FAILURES")
login_window = _seconds("BASKETS_LOGIN_WINDOW_SECONDS")
# How many requests of one process may wait for events of the feed; here 0 means none.
feed_waiters = _number("BASKETS_FEED_WAITERS")

# --- Staff --------------------------------------------------------------------

# The reasons that forms offer. Empty: staff write each reason.
repair_reasons = _texts("BASKETS_REPAIR_REASONS")
basket_reasons = _texts("BASKETS_BASKET_REASONS")
stock_reasons = _texts("BASKETS_STOCK_REASONS")
access_reasons = _texts("BASKETS_ACCESS_REASONS")
staff_session_lifetime = _seconds("BASKETS_STAFF_SESSION_SECONDS")
staff_idle_timeout = _seconds("BASKETS_STAFF_IDLE_SECONDS")
# The groups whose members need a second factor; `superusers` stands for all superusers.
second_factor_roles = _texts("BASKETS_SECOND_FACTOR_ROLES")

# --- Webhooks and key sets of partners ----------------------------------------

webhook_timeout = _seconds("BASKETS_WEBHOOK_TIMEOUT_SECONDS")
webhook_give_up_after = _seconds("BASKETS_WEBHOOK_PATIENCE_SECONDS")
# The number from which on the keys of a partner create no further one.
webhooks_per_partner = _number("BASKETS_WEBHOOKS_PER_PARTNER")
# Whether URLs of partners may lead to internal hosts, to any port, and over plain HTTP: for tests and closed networks.
internal_addresses_allowed = _switch("BASKETS_INTERNAL_ADDRESSES")


def outgoing_ports() -> list[int]:
    """The ports that URLs of partners may have in addition to 80, 443 and those from 8000 up."""
    return list(settings.BASKETS_OUTGOING_PORTS)


# --- The installation ---------------------------------------------------------


def public_url() -> str:
    """The URL of the service as callers see it, without a trailing slash. Empty: the URL of the request is used."""
    return str(settings.BASKETS_PUBLIC_URL).rstrip("/")


def client_address_header() -> str:
    """The header in which a trusted proxy reports the client's address.

    :returns: the WSGI name, for example `HTTP_X_FORWARDED_FOR`. Empty: no header is trusted.
    """
    name = settings.BASKETS_CLIENT_ADDRESS_HEADER
    return f"HTTP_{name.upper().replace('-', '_')}" if name else ""


# The number of trusted proxies that each append an entry to the client address header.
trusted_proxies = _number("BASKETS_TRUSTED_PROXIES")
# The keys for stored secrets; the first one encrypts. Empty: keys are derived from the Django secret key.
encryption_keys = _texts("BASKETS_ENCRYPTION_KEYS")
# The token that a monitoring system sends to read `/metrics`. Empty: the page does not exist.
metrics_token = _text("BASKETS_METRICS_TOKEN")
# Each id is the value of a label, so there are few.
metrics_products = _texts("BASKETS_METRICS_PRODUCTS")
# The number of this cell, from 1. 0: the installation has no cells.
cell = _number("BASKETS_CELL")
# The aliases of the databases of all cells, in the order of their numbers. Empty: no command sees several cells.
cell_databases = _texts("BASKETS_CELL_DATABASES")
# The path of the file that names the cell of each slot.
slot_map_file = _text("BASKETS_SLOT_MAP")
