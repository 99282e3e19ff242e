"""Every tunable of the service, read in one place; the values themselves come from `basket_project.settings`.

Functions and not constants, so that nothing is read at import and a test can override a setting.
"""

from datetime import timedelta

from django.conf import settings


def hold_duration() -> timedelta:
    """How long a checkout session holds its stock, where the partner has no setting of its own."""
    return timedelta(seconds=settings.BASKETS_HOLD_SECONDS)


def grace_period() -> timedelta:
    """How long after its abort, or the end of its hold, a session may still become a late order."""
    return timedelta(seconds=settings.BASKETS_GRACE_SECONDS)


def basket_lifetime() -> timedelta:
    """How long a basket lives after its last change; a guest basket after its creation."""
    return timedelta(seconds=settings.BASKETS_LIFETIME_SECONDS)


def guest_token_lifetime() -> timedelta:
    """How long the token of a guest is good."""
    return timedelta(seconds=settings.BASKETS_GUEST_TOKEN_SECONDS)


def cart_limit() -> int:
    """How many items additions may bring the cart to."""
    return int(settings.BASKETS_CART_LIMIT)


def saved_limit() -> int:
    """How many items additions may bring the saved list to."""
    return int(settings.BASKETS_SAVED_LIMIT)


def piece_limit() -> int:
    """How many pieces of one product a call may ask for."""
    return int(settings.BASKETS_PIECE_LIMIT)


def details_limit() -> int:
    """How many products one call may ask the details of."""
    return int(settings.BASKETS_DETAILS_LIMIT)


def body_limit_bytes() -> int:
    """How long a request body may be."""
    return int(settings.BASKETS_BODY_LIMIT_BYTES)


def public_url() -> str:
    """Where the service is, as callers see it, without a slash at the end; empty: as the call itself was addressed."""
    return str(settings.BASKETS_PUBLIC_URL).rstrip("/")


def transferred_guests_may_transfer() -> bool:
    """Whether a device that took a basket over may offer it to a third one."""
    return bool(settings.BASKETS_TRANSFERRED_GUESTS_MAY_TRANSFER)


def encryption_keys() -> list[str]:
    """The keys of stored secrets, the one that encrypts first; none: they are derived from the secret of the service."""
    return list(settings.BASKETS_ENCRYPTION_KEYS)


def webhook_timeout() -> timedelta:
    """How long a receiver of a webhook may take for its answer."""
    return timedelta(seconds=settings.BASKETS_WEBHOOK_TIMEOUT_SECONDS)


def webhook_give_up_after() -> timedelta:
    """How long a webhook may fail before it is given up."""
    return timedelta(seconds=settings.BASKETS_WEBHOOK_PATIENCE_SECONDS)


def internal_addresses_allowed() -> bool:
    """Whether addresses that partners name may lead to internal hosts, on any port, and over plain HTTP: for tests and closed networks."""
    return bool(settings.BASKETS_INTERNAL_ADDRESSES)


def outgoing_ports() -> list[int]:
    """Which ports addresses that partners name may have, beside 80, 443 and those from 8000 up."""
    return list(settings.BASKETS_OUTGOING_PORTS)


def metrics_token() -> str:
    """What a monitoring system must bring to read `/metrics`; empty where there is no such page."""
    return str(settings.BASKETS_METRICS_TOKEN)


def calls_per_minute() -> int:
    """How many calls a key may make within a minute, where it has no limit of its own; 0 is no limit."""
    return int(settings.BASKETS_CALLS_PER_MINUTE)


def failures_per_minute() -> int:
    """How many bad keys and tokens of one source get an answer of their own within a minute; 0 is no limit."""
    return int(settings.BASKETS_FAILURES_PER_MINUTE)


def starts_per_hour() -> int:
    """How many checkouts a user may start within an hour; 0 is no limit."""
    return int(settings.BASKETS_STARTS_PER_HOUR)


def pieces_per_checkout() -> int:
    """How many pieces of one limited product a checkout may hold; 0 is no limit."""
    return int(settings.BASKETS_PIECES_PER_CHECKOUT)


def partner_share_percent() -> int:
    """How much of the unsold pieces of a product the checkouts of one partner may hold at once; 0 is no limit."""
    return int(settings.BASKETS_PARTNER_SHARE_PERCENT)


def client_limit(what: str, *, per: str) -> int:
    """How many guests, starts or pieces a client key, or a source of such keys, may have within a window; 0 is no limit."""
    return int(getattr(settings, f"BASKETS_{what.upper()}_PER_{per.upper()}"))


def client_limit_window() -> timedelta:
    """How long guests, starts and pieces are counted together."""
    return timedelta(seconds=settings.BASKETS_CLIENT_LIMIT_SECONDS)


def new_guest_age() -> timedelta:
    """How old a guest may be to count as new."""
    return timedelta(seconds=settings.BASKETS_NEW_GUEST_SECONDS)


def new_guest_pieces() -> int:
    """How many pieces of limited products a checkout of a new guest may hold, where a client key calls; 0 is no limit."""
    return int(settings.BASKETS_NEW_GUEST_PIECES)


def login_failures() -> int:
    """How many attempts to sign in to the admin may fail within a window, for one name from one source; 0 is no limit."""
    return int(settings.BASKETS_LOGIN_FAILURES)


def login_window() -> timedelta:
    """How long failed attempts to sign in are counted together, and so how long somebody may have to wait."""
    return timedelta(seconds=settings.BASKETS_LOGIN_WINDOW_SECONDS)


def staff_session_lifetime() -> timedelta:
    """How long a session of the admin lasts at most."""
    return timedelta(seconds=settings.BASKETS_STAFF_SESSION_SECONDS)


def staff_idle_timeout() -> timedelta:
    """How long a session of the admin lasts without a request."""
    return timedelta(seconds=settings.BASKETS_STAFF_IDLE_SECONDS)


def second_factor_roles() -> list[str]:
    """Whose accounts must have a second factor: names of groups, and `superusers`."""
    return list(settings.BASKETS_SECOND_FACTOR_ROLES)


def client_address_header() -> str:
    """Where the proxy in front says who called, as WSGI names the header; empty where there is none to be trusted."""
    name = settings.BASKETS_CLIENT_ADDRESS_HEADER
    return f"HTTP_{name.upper().replace('-', '_')}" if name else ""


def trusted_proxies() -> int:
    """How many proxies in front add an entry to the header that says who called."""
    return int(settings.BASKETS_TRUSTED_PROXIES)


def idempotency_window() -> timedelta:
    """How long the answer to an Idempotency-Key is remembered."""
    return timedelta(seconds=settings.BASKETS_IDEMPOTENCY_SECONDS)
