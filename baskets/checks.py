"""System checks: report invalid settings before the first request. The ids are stable."""

import re
import sys
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register
from django.core.checks import Warning as Caution
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError

from baskets.domain import slots
from baskets.domain.maintenance.reencryption import unreadable_tables

POSITIVE_SETTINGS = {
    "BASKETS_HOLD_SECONDS": "baskets.E001",
    "BASKETS_GRACE_SECONDS": "baskets.E002",
    "BASKETS_LIFETIME_SECONDS": "baskets.E003",
    "BASKETS_CART_LIMIT": "baskets.E004",
    "BASKETS_SAVED_LIMIT": "baskets.E005",
    "BASKETS_PIECE_LIMIT": "baskets.E006",
    "BASKETS_DETAILS_LIMIT": "baskets.E007",
    "BASKETS_BODY_LIMIT_BYTES": "baskets.E008",
    "BASKETS_IDEMPOTENCY_SECONDS": "baskets.E009",
    "BASKETS_LOGIN_WINDOW_SECONDS": "baskets.E024",
    "BASKETS_STAFF_IDLE_SECONDS": "baskets.E050",
    "BASKETS_STAFF_SESSION_SECONDS": "baskets.E051",
    "BASKETS_GUEST_TOKEN_SECONDS": "baskets.E010",
    "BASKETS_CLIENT_LIMIT_SECONDS": "baskets.E040",
    "BASKETS_NEW_GUEST_SECONDS": "baskets.E041",
    "BASKETS_TRUSTED_PROXIES": "baskets.E049",
    "BASKETS_WEBHOOK_TIMEOUT_SECONDS": "baskets.E031",
    "BASKETS_WEBHOOK_PATIENCE_SECONDS": "baskets.E032",
    "BASKETS_WEBHOOKS_PER_PARTNER": "baskets.E034",
    "BASKETS_MAX_CONNECTIONS": "baskets.E060",
    "BASKETS_IDLE_SECONDS": "baskets.E061",
    "BASKETS_HEAD_SECONDS": "baskets.E062",
    "BASKETS_BODY_SECONDS": "baskets.E063",
    "BASKETS_MIN_BYTES_PER_SECOND": "baskets.E064",
    "BASKETS_HELD_BYTES": "baskets.E065",
    "BASKETS_TARGET_LIMIT_BYTES": "baskets.E066",
    "BASKETS_HEAD_LIMIT_BYTES": "baskets.E067",
    "BASKETS_HEADER_LIMIT_BYTES": "baskets.E068",
    "BASKETS_TOKEN_LIMIT_BYTES": "baskets.E069",
    "BASKETS_TRACKING_LIMIT_BYTES": "baskets.E070",
    "BASKETS_QUEUE_LENGTH": "baskets.E071",
    "BASKETS_QUEUE_SECONDS": "baskets.E072",
}
# Limits that 0 switches off.
OPTIONAL_LIMITS = {
    "BASKETS_DRAIN_SECONDS": "baskets.E073",
    "BASKETS_GUEST_KEY_PUBLICATION_SECONDS": "baskets.E011",
    "BASKETS_FEED_WAITERS": "baskets.E074",
    "BASKETS_CALLS_PER_MINUTE": "baskets.E020",
    "BASKETS_FAILURES_PER_MINUTE": "baskets.E021",
    "BASKETS_LOGIN_FAILURES": "baskets.E023",
    "BASKETS_STARTS_PER_HOUR": "baskets.E025",
    "BASKETS_PIECES_PER_CHECKOUT": "baskets.E026",
    "BASKETS_PARTNER_SHARE_PERCENT": "baskets.E027",
    "BASKETS_GUESTS_PER_KEY": "baskets.E042",
    "BASKETS_STARTS_PER_KEY": "baskets.E043",
    "BASKETS_PIECES_PER_KEY": "baskets.E044",
    "BASKETS_GUESTS_PER_SOURCE": "baskets.E045",
    "BASKETS_STARTS_PER_SOURCE": "baskets.E046",
    "BASKETS_PIECES_PER_SOURCE": "baskets.E047",
    "BASKETS_NEW_GUEST_PIECES": "baskets.E048",
}
MAX_METRICS_PRODUCTS = 20
ENCRYPTION_KEY = re.compile(r"[A-Za-z0-9_-]{43}=")
HEADER = re.compile(r"[A-Za-z0-9-]*")
MAX_VALUE = 10 * 365 * 24 * 60 * 60  # Ten years in seconds: a longer duration is a typing error, and dates overflow.


@register()
def check_numbers(**_: Any) -> list[CheckMessage]:
    """Reject a limit or duration that is not a whole number up to `MAX_VALUE`, from 1, or from 0 where 0 switches it off."""
    return [
        Error(f"{name} must be a whole number from {minimum} to {MAX_VALUE}, not {value!r}.", id=check_id)
        for minimum, checked in ((1, POSITIVE_SETTINGS), (0, OPTIONAL_LIMITS))
        for name, check_id in checked.items()
        if not isinstance(value := getattr(settings, name), int) or not minimum <= value <= MAX_VALUE
    ]


@register()
def check_client_address_header(**_: Any) -> list[CheckMessage]:
    """Reject an invalid header name: the header would never be found, and all callers would share one source."""
    name = settings.BASKETS_CLIENT_ADDRESS_HEADER
    if HEADER.fullmatch(name):
        return []
    return [Error(f"BASKETS_CLIENT_ADDRESS_HEADER must be the name of a header, such as X-Forwarded-For, not {name!r}.", id="baskets.E022")]


@register()
def check_encryption_keys(**_: Any) -> list[CheckMessage]:
    """Reject a malformed encryption key. The message does not quote it."""
    return [
        Error(f"Key {number} of BASKETS_ENCRYPTION_KEYS is not 32 bytes in URL-safe base64.", id="baskets.E030")
        for number, key in enumerate(settings.BASKETS_ENCRYPTION_KEYS, start=1)
        if not ENCRYPTION_KEY.fullmatch(key)
    ]


@register()
def check_cell(**_: Any) -> list[CheckMessage]:
    """Reject a cell without a valid slot map: it would refuse every call, or answer calls of other cells."""
    if not isinstance(settings.BASKETS_CELL, int) or not 0 <= settings.BASKETS_CELL <= slots.SLOTS:
        return [Error(f"BASKETS_CELL must be a whole number from 0 to {slots.SLOTS}, not {settings.BASKETS_CELL!r}.", id="baskets.E090")]
    if not settings.BASKETS_CELL:
        return []
    try:
        slots.read_slot_map(settings.BASKETS_SLOT_MAP)
    except slots.InvalidSlotMap as problem:
        return [Error(f"BASKETS_SLOT_MAP: {problem}", id="baskets.E091")]
    return []


@register()
def check_outgoing_ports(**_: Any) -> list[CheckMessage]:
    """Reject a port outside 1 to 65535."""
    return [
        Error(f"BASKETS_OUTGOING_PORTS must have numbers from 1 to 65535, not {port!r}.", id="baskets.E033")
        for port in settings.BASKETS_OUTGOING_PORTS
        if not 0 < port < 2**16
    ]


@register()
def check_metrics_products(**_: Any) -> list[CheckMessage]:
    """Reject more products than `/metrics` can have as values of a label."""
    if len(settings.BASKETS_METRICS_PRODUCTS) <= MAX_METRICS_PRODUCTS:
        return []
    return [Error(f"BASKETS_METRICS_PRODUCTS must name {MAX_METRICS_PRODUCTS} products at most.", id="baskets.E035")]


@register(Tags.database)
def check_stored_secrets(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Warn where the configured keys do not decrypt what is stored, as after a restore with another secret."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return []
    try:
        tables = unreadable_tables()
    except (DatabaseError, InterfaceError):
        return []  # Another check says that the database is gone; or its tables are still to be made.
    hint = "Give BASKETS_ENCRYPTION_KEYS, or DJANGO_SECRET_KEY with its fallbacks, the values of the time when they were stored."
    return [Caution(f"No configured key decrypts the latest secret of {table}.", hint=hint, id="baskets.W018") for table in tables]


# The first patch release of each series that parses cookies in linear time (CVE-2024-7592).
FIXED_PYTHON_RELEASES = {(3, 11): 10, (3, 12): 6}


@register(Tags.security, deploy=True)
def check_python_version(**_: Any) -> list[CheckMessage]:
    """Warn of a Python release that parses cookies in quadratic time. The service limits the effect; it cannot remove it."""
    major, minor, patch = sys.version_info[:3]
    fixed = FIXED_PYTHON_RELEASES.get((major, minor), 0)
    if patch >= fixed:
        return []
    return [
        Caution(
            f"Python {major}.{minor}.{patch} reads cookies slowly (CVE-2024-7592): use {major}.{minor}.{fixed} or later.", id="baskets.W001"
        )
    ]
