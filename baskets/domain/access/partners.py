"""Partners and the keys their software calls with. How a call is recognised by its key is the API's business."""

import hashlib
import re
import secrets
import string
from collections.abc import Iterable
from datetime import datetime, timedelta

import structlog
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from baskets.db.errors import constraint_of
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.models import ApiKey, Partner

log = structlog.get_logger(__name__)

PREFIX_ALPHABET = string.ascii_lowercase + string.digits
PREFIX_LENGTH = 12
SECRET_BYTES = 32
KEY_PATTERN = re.compile(r"bk_([a-z0-9]{12})_[0-9a-f]{64}", re.ASCII)
MAX_NAME_LENGTH = 100
MAX_LABEL_LENGTH = 100
# A hold keeps pieces from other buyers; a longer one than a week is a slip of the finger.
MAX_HOLD_SECONDS = 7 * 24 * 60 * 60
# Scheme, host and perhaps a port, as browsers spell them; never a wildcard, and never `null`, which is everybody's.
ORIGIN_PATTERN = re.compile(
    r"https?://(?:[a-z0-9-]+\.)*[a-z0-9-]+(?::[1-9][0-9]{0,4})?|https?://\[[0-9a-f:]+\](?::[1-9][0-9]{0,4})?", re.ASCII
)
MAX_ORIGIN_LENGTH = 255
MAX_ORIGINS = 100
MAX_KEY_LIFETIME = timedelta(days=100 * 365)
# More calls than this a minute are no limit.
MAX_CALLS_PER_MINUTE = 1_000_000


class PartnerNameTaken(Refusal):
    """A partner of this name exists, and names are how partners are told apart."""

    reason = "partner_name_taken"
    message = "There is already a partner of this name."


class PartnerNotFound(Refusal):
    """No partner has this name."""

    reason = "partner_unknown"
    message = "There is no partner of this name."


class ApiKeyNotFound(Refusal):
    """No key has this prefix."""

    reason = "api_key_unknown"
    message = "There is no API key with this prefix."


class InvalidValue(Refusal):
    """A name, label or duration cannot be stored as it was given."""

    reason = "unusable_value"
    message = "A value cannot be used."

    def __init__(self, problem: str) -> None:
        super().__init__()
        self.problem = problem

    def __str__(self) -> str:
        return self.problem


def create_partner(
    *,
    name: str,
    late_orders: str = Partner.LateOrders.REFUSE,
    hold_seconds: int | None = None,
    orders_need_server_key: bool = False,
) -> Partner:
    """Create a partner.

    A name is given once: a second partner of the same name is refused, never merged with the first.

    :param hold_seconds: how long a checkout of this partner holds its stock; None is the default of the service.
    :param orders_need_server_key: whether only its server keys may report `ordered: true`.
    :raises PartnerNameTaken: there is a partner of this name.
    :raises InvalidValue: the name is empty, too long or not printable, or the hold is out of range.
    """
    validate_printable(name, limit=MAX_NAME_LENGTH, what="A partner's name")
    if late_orders not in Partner.LateOrders.values:
        raise InvalidValue("Late orders are either refused or accepted: `refuse` or `accept`.")
    if hold_seconds is not None and not 0 < hold_seconds <= MAX_HOLD_SECONDS:
        raise InvalidValue(f"A hold lasts from 1 to {MAX_HOLD_SECONDS} seconds.")
    try:
        with transaction.atomic():
            return Partner.objects.create(
                name=name,
                late_orders=late_orders,
                hold_seconds=hold_seconds,
                orders_need_server_key=orders_need_server_key,
            )
    except IntegrityError:
        if Partner.objects.filter(name=name).exists():
            raise PartnerNameTaken from None
        raise


def issue_api_key(
    *,
    partner_name: str,
    kind: str = ApiKey.Kind.SERVER,
    label: str = "",
    expires_at: datetime | None = None,
    expires_in: timedelta | None = None,
    calls_per_minute: int | None = None,
    created_by: str,
) -> tuple[ApiKey, str]:
    """Issue a key, and return its row and its text.

    The text is known here and nowhere else: what is stored is a prefix to find the key by and a digest to check it
    against. A plain digest is enough, because the secret has 256 bits and cannot be guessed from it.

    :param expires_at: when the key ends, or :param expires_in: how long after now, by the database's clock.
    :param calls_per_minute: the key's own limit; 0 is none, None is that of the service.
    :raises PartnerNotFound: there is no partner of this name.
    :raises InvalidValue: the label cannot be stored, the key would end before it begins, or its limit is out of range.
    """
    if label:
        validate_printable(label, limit=MAX_LABEL_LENGTH, what="A key's label")
    if kind not in ApiKey.Kind.values:
        raise InvalidValue("A key is either a `server` or a `client` key.")
    if expires_at is not None and expires_in is not None:
        raise InvalidValue("Either the end of a key is given or its duration, not both.")
    if expires_in is not None and not timedelta() < expires_in <= MAX_KEY_LIFETIME:
        raise InvalidValue(f"A key lasts from a moment to {MAX_KEY_LIFETIME.days} days.")
    _validate_rate_limit(calls_per_minute)
    prefix = "".join(secrets.choice(PREFIX_ALPHABET) for _ in range(PREFIX_LENGTH))
    text = f"bk_{prefix}_{secrets.token_hex(SECRET_BYTES)}"
    try:
        with transaction.atomic():
            partner = Partner.objects.filter(name=partner_name).first()
            if partner is None:
                raise PartnerNotFound
            key = ApiKey.objects.create(
                partner=partner,
                prefix=prefix,
                digest=digest_key(text),
                kind=kind,
                label=label,
                created_by=created_by,
                calls_per_minute=calls_per_minute,
                expires_at=expires_at if expires_in is None else Now() + expires_in,
            )
            key.refresh_from_db()  # Its times are the database's.
    except IntegrityError as error:
        if constraint_of(error) == "key_ends_after_it_was_made":
            raise InvalidValue("The key would end before it begins.") from None
        raise
    return key, text


def revoke_api_key(*, prefix: str, actor: Actor) -> ApiKey:
    """Revoke a key at once. A revoked key stays revoked since its first revocation.

    Who revoked it stands in the log.

    :raises ApiKeyNotFound: there is no key with this prefix.
    """
    revoked_now = ApiKey.objects.filter(prefix=prefix, revoked_at__isnull=True).update(revoked_at=Now())
    key = ApiKey.objects.select_related("partner").filter(prefix=prefix).first()
    if key is None:
        raise ApiKeyNotFound
    if revoked_now:
        partner_name = key.partner.name
        transaction.on_commit(lambda: log.info("api_key_revoked", prefix=prefix, partner=partner_name, by=actor.name))
    return key


def set_api_key_rate_limit(*, prefix: str, calls_per_minute: int | None, actor: Actor) -> ApiKey:
    """Give a key a limit of its own, from the next call on.

    Who did it stands in the log.

    :param calls_per_minute: 0 is no limit, None the one of the service.
    :raises ApiKeyNotFound: there is no key with this prefix.
    :raises InvalidValue: the limit is out of range.
    """
    _validate_rate_limit(calls_per_minute)
    if not ApiKey.objects.filter(prefix=prefix).update(calls_per_minute=calls_per_minute):
        raise ApiKeyNotFound
    key = ApiKey.objects.select_related("partner").get(prefix=prefix)
    told = {"prefix": prefix, "partner": key.partner.name, "calls_per_minute": calls_per_minute, "by": actor.name}
    transaction.on_commit(lambda: log.info("api_key_limited", **told))
    return key


@transaction.atomic
def set_orders_need_server_key(*, partner_name: str, required: bool, actor: Actor) -> Partner:
    """Decide whether only the partner's server keys may report `ordered: true`, from the next call on.

    The log records who decided it.

    :raises PartnerNotFound: there is no partner of this name.
    """
    if not Partner.objects.filter(name=partner_name).update(orders_need_server_key=required):
        raise PartnerNotFound
    transaction.on_commit(lambda: log.info("orders_need_server_key", partner=partner_name, required=required, by=actor.name))
    return Partner.objects.get(name=partner_name)


@transaction.atomic
def allow_origins(*, partner_name: str, origins: Iterable[str], actor: Actor) -> Partner:
    """Allow web pages of these origins, and of no others, to call with the partner's keys.

    A browser hears of it within seconds, and may remember what it heard for ten minutes. Who did it stands in the log.

    :param origins: as a browser sends them, `https://player.example.com`.
    :raises PartnerNotFound: there is no partner of this name.
    :raises InvalidValue: one of them is no origin, or they are too many.
    """
    allowed = sorted(set(origins))
    if len(allowed) > MAX_ORIGINS:
        raise InvalidValue(f"A partner has at most {MAX_ORIGINS} origins.")
    for origin in allowed:
        if not ORIGIN_PATTERN.fullmatch(origin) or len(origin) > MAX_ORIGIN_LENGTH:
            raise InvalidValue(f"{origin[:80]!r} is no origin: give scheme and host in small letters, as https://player.example.com.")
    if not Partner.objects.filter(name=partner_name).update(origins=allowed):
        raise PartnerNotFound
    transaction.on_commit(lambda: log.info("origins_allowed", partner=partner_name, origins=allowed, by=actor.name))
    return Partner.objects.get(name=partner_name)


def digest_key(text: str) -> bytes:
    """Compute what is stored of a key: the SHA-256 digest of its whole text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def parse_key_prefix(text: str) -> str | None:
    """Tell the prefix of a key from its text, or None where the text is no key at all."""
    return found[1] if (found := KEY_PATTERN.fullmatch(text)) else None


def _validate_rate_limit(calls_per_minute: int | None) -> None:
    if calls_per_minute is not None and not 0 <= calls_per_minute <= MAX_CALLS_PER_MINUTE:
        raise InvalidValue(f"A key is limited to 0 (no limit) to {MAX_CALLS_PER_MINUTE} calls a minute.")


def validate_printable(text: str, *, limit: int, what: str) -> None:
    """Let a text be stored only if people can read it.

    :raises InvalidValue: it is empty, too long or not printable.
    """
    if not text.strip() or len(text) > limit or not text.isprintable():
        raise InvalidValue(f"{what} has 1 to {limit} printable characters.")
