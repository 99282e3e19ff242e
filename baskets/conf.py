"""Typed access to the settings of the service. The values are defined in `basket_project.settings`.

These are functions because a constant would be read at import, before a test can override the setting.
"""

from datetime import timedelta

from django.conf import settings


def hold_duration() -> timedelta:
    """How long a checkout session holds its stock, unless the partner has its own setting."""
    return timedelta(seconds=settings.BASKETS_HOLD_SECONDS)


def hold_extension() -> timedelta:
    """How far into the future staff can extend the hold of an active checkout at once."""
    return timedelta(seconds=settings.BASKETS_HOLD_EXTENSION_SECONDS)


def hold_extensions() -> int:
    """How often staff can extend the hold of one checkout. 0: never."""
    return int(settings.BASKETS_HOLD_EXTENSIONS)


def repair_reasons() -> list[str]:
    """The reasons that forms of repairs offer. Empty: staff write each reason."""
    return list(settings.BASKETS_REPAIR_REASONS)


def grace_period() -> timedelta:
    """How long after an abort, or after the end of its hold, a session can still become a late order."""
    return timedelta(seconds=settings.BASKETS_GRACE_SECONDS)


def basket_lifetime() -> timedelta:
    """How long a basket lives after its last change; a guest basket after its creation."""
    return timedelta(seconds=settings.BASKETS_LIFETIME_SECONDS)


def guest_token_lifetime() -> timedelta:
    """How long a guest's token is valid."""
    return timedelta(seconds=settings.BASKETS_GUEST_TOKEN_SECONDS)


def guest_key_publication() -> timedelta:
    """How long a new signing key for guests is published before it signs."""
    return timedelta(seconds=settings.BASKETS_GUEST_KEY_PUBLICATION_SECONDS)


def cart_limit() -> int:
    """The number of items up to which the cart accepts additions."""
    return int(settings.BASKETS_CART_LIMIT)


def saved_limit() -> int:
    """The number of items up to which the saved list accepts additions."""
    return int(settings.BASKETS_SAVED_LIMIT)


def piece_limit() -> int:
    """The maximum number of pieces of one product in a request."""
    return int(settings.BASKETS_PIECE_LIMIT)


def details_limit() -> int:
    """The maximum number of products in one request for details."""
    return int(settings.BASKETS_DETAILS_LIMIT)


def body_limit_bytes() -> int:
    """The maximum length of a request body."""
    return int(settings.BASKETS_BODY_LIMIT_BYTES)


def public_url() -> str:
    """The URL of the service as callers see it, without a trailing slash. Empty: the URL of the request is used."""
    return str(settings.BASKETS_PUBLIC_URL).rstrip("/")


def transferred_guests_may_transfer() -> bool:
    """Whether a device that received a basket by transfer can transfer it again."""
    return bool(settings.BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER)


def encryption_keys() -> list[str]:
    """The keys for stored secrets; the first one encrypts. Empty: keys are derived from the Django secret key."""
    return list(settings.BASKETS_ENCRYPTION_KEYS)


def webhook_timeout() -> timedelta:
    """How long a webhook receiver has to respond."""
    return timedelta(seconds=settings.BASKETS_WEBHOOK_TIMEOUT_SECONDS)


def webhook_give_up_after() -> timedelta:
    """How long a webhook can fail before delivery stops."""
    return timedelta(seconds=settings.BASKETS_WEBHOOK_PATIENCE_SECONDS)


def webhooks_per_partner() -> int:
    """How many webhooks a partner may have for its keys to create another one."""
    return int(settings.BASKETS_WEBHOOKS_PER_PARTNER)


def feed_waiters() -> int:
    """How many requests of one process may wait for events of the feed. 0: none waits."""
    return int(settings.BASKETS_FEED_WAITERS)


def internal_addresses_allowed() -> bool:
    """Whether URLs of partners may lead to internal hosts, to any port, and over plain HTTP: for tests and closed networks."""
    return bool(settings.BASKETS_INTERNAL_ADDRESSES)


def outgoing_ports() -> list[int]:
    """The ports that URLs of partners may have in addition to 80, 443 and those from 8000 up."""
    return list(settings.BASKETS_OUTGOING_PORTS)


def metrics_token() -> str:
    """The token that a monitoring system sends to read `/metrics`. Empty: the page does not exist."""
    return str(settings.BASKETS_METRICS_TOKEN)


def calls_per_minute() -> int:
    """The maximum number of calls per minute for a key that has no limit itself. 0: unlimited."""
    return int(settings.BASKETS_CALLS_PER_MINUTE)


def failures_per_minute() -> int:
    """The number of bad keys and tokens per minute and source that get the detailed error. 0: unlimited."""
    return int(settings.BASKETS_FAILURES_PER_MINUTE)


def starts_per_hour() -> int:
    """The maximum number of checkouts that a user starts per hour. 0: unlimited."""
    return int(settings.BASKETS_STARTS_PER_HOUR)


def pieces_per_checkout() -> int:
    """The maximum number of pieces of one limited product in a checkout. 0: unlimited."""
    return int(settings.BASKETS_PIECES_PER_CHECKOUT)


def partner_share_percent() -> int:
    """The share of a product's unsold pieces that the checkouts of one partner can hold at once. 0: unlimited."""
    return int(settings.BASKETS_PARTNER_SHARE_PERCENT)


def client_limit(what: str, *, per: str) -> int:
    """The maximum number of guests, starts or pieces per window for a client key or for a source of such keys. 0: unlimited.

    :param what: `"guests"`, `"starts"` or `"pieces"`.
    :param per: `"key"` or `"source"`.
    """
    return int(getattr(settings, f"BASKETS_{what.upper()}_PER_{per.upper()}"))


def client_limit_window() -> timedelta:
    """The window in which guests, starts and pieces are counted."""
    return timedelta(seconds=settings.BASKETS_CLIENT_LIMIT_SECONDS)


def new_guest_age() -> timedelta:
    """The age up to which a guest counts as new."""
    return timedelta(seconds=settings.BASKETS_NEW_GUEST_SECONDS)


def new_guest_pieces() -> int:
    """The maximum number of pieces of limited products in a new guest's checkout with a client key. 0: unlimited."""
    return int(settings.BASKETS_NEW_GUEST_PIECES)


def login_failures() -> int:
    """The number of failed sign-ins to the admin per window, for one name from one source. 0: unlimited."""
    return int(settings.BASKETS_LOGIN_FAILURES)


def login_window() -> timedelta:
    """The window in which failed sign-ins are counted, and so the longest time that a sign-in stays blocked."""
    return timedelta(seconds=settings.BASKETS_LOGIN_WINDOW_SECONDS)


def staff_session_lifetime() -> timedelta:
    """The maximum duration of an admin session."""
    return timedelta(seconds=settings.BASKETS_STAFF_SESSION_SECONDS)


def staff_idle_timeout() -> timedelta:
    """How long an admin session lasts without a request."""
    return timedelta(seconds=settings.BASKETS_STAFF_IDLE_SECONDS)


def second_factor_roles() -> list[str]:
    """The groups whose members need a second factor; `superusers` stands for all superusers."""
    return list(settings.BASKETS_SECOND_FACTOR_ROLES)


def client_address_header() -> str:
    """The header in which a trusted proxy reports the client's address.

    :returns: the WSGI name, for example `HTTP_X_FORWARDED_FOR`. Empty: no header is trusted.
    """
    name = settings.BASKETS_CLIENT_ADDRESS_HEADER
    return f"HTTP_{name.upper().replace('-', '_')}" if name else ""


def trusted_proxies() -> int:
    """The number of trusted proxies that each append an entry to the client address header."""
    return int(settings.BASKETS_TRUSTED_PROXIES)


def idempotency_window() -> timedelta:
    """How long the response to an Idempotency-Key is stored."""
    return timedelta(seconds=settings.BASKETS_IDEMPOTENCY_SECONDS)
