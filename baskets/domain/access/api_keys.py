"""API keys: issues, limits and revokes them. How a call presents its key is checked in `api.auth.api_keys`."""

import hashlib
import re
import secrets
import string
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.domain import audit_log
from baskets.domain.access.partners import PartnerNotFound
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.validation import MAX_LABEL_LENGTH, InvalidValue, require_reason, validate_printable
from baskets.domain.wording import sentence
from baskets.models import ApiKey, DeskEntry, Partner

log = structlog.get_logger(__name__)

PREFIX_ALPHABET = string.ascii_lowercase + string.digits
PREFIX_LENGTH = 12
# Test keys can be recognised, by people and by scanners for leaked secrets. They share the machine with the keys of live
# partners, so each has a limit from the start.
TEST_PREFIX = "test"
TEST_CALLS_PER_MINUTE = 600
SECRET_BYTES = 32
KEY_PATTERN = re.compile(r"bk_([a-z0-9]{12})_[0-9a-f]{64}", re.ASCII)
MAX_KEY_LIFETIME = timedelta(days=100 * 365)
MAX_CALLS_PER_MINUTE = 1_000_000


class ApiKeyNotFound(Refusal):
    """No key has this prefix."""

    reason = "api_key_unknown"
    message = gettext_noop("There is no API key with this prefix.")


@transaction.atomic
def issue_api_key(
    *,
    partner_name: str,
    kind: str = ApiKey.Kind.SERVER,
    label: str = "",
    expires_in: timedelta | None = None,
    calls_per_minute: int | None = None,
    actor: Actor,
) -> tuple[ApiKey, str]:
    """Issue a key.

    The database stores the prefix, by which the key is found, and a SHA-256 digest. A plain digest is enough: the secret has
    256 random bits. A key of a sandbox is a test key: its prefix begins with `test`.

    :param expires_in: after how long the key expires, by the database's clock; None: never.
    :param calls_per_minute: the key's rate limit; 0 for no limit, None for the limit of the service, or of a test key.
    :returns: the row and the text of the key. The text cannot be read again later.
    :raises PartnerNotFound: no partner has this name.
    :raises InvalidValue: the label cannot be stored, or the kind, the duration or the limit is out of range.
    """
    if label:
        validate_printable(label, limit=MAX_LABEL_LENGTH, what=_("A key's label"))
    if kind not in ApiKey.Kind.values:
        raise InvalidValue(sentence("A key is either a `server` or a `client` key."))
    if expires_in is not None and not timedelta() < expires_in <= MAX_KEY_LIFETIME:
        raise InvalidValue(sentence("A key lasts from a moment to %(number)s days.", number=MAX_KEY_LIFETIME.days))
    _validate_rate_limit(calls_per_minute)
    partner = Partner.objects.filter(name=partner_name).first()
    if partner is None:
        raise PartnerNotFound
    if partner.is_sandbox and calls_per_minute is None:
        calls_per_minute = TEST_CALLS_PER_MINUTE
    begin = TEST_PREFIX if partner.is_sandbox else ""
    prefix = begin + "".join(secrets.choice(PREFIX_ALPHABET) for _ in range(PREFIX_LENGTH - len(begin)))
    text = f"bk_{prefix}_{secrets.token_hex(SECRET_BYTES)}"
    key = ApiKey.objects.create(
        partner=partner,
        prefix=prefix,
        digest=digest_key(text),
        kind=kind,
        label=label,
        created_by=actor.name,
        calls_per_minute=calls_per_minute,
        expires_at=None if expires_in is None else Now() + expires_in,
    )
    key.refresh_from_db()  # The database has computed the times.
    ends = key.expires_at and key.expires_at.isoformat(timespec="seconds")
    after = {"kind": kind, "label": label, "expires_at": ends, "calls_per_minute": calls_per_minute}
    _record(DeskEntry.Kind.CREATED, key, {"after": after}, "", actor)
    return key, text


@transaction.atomic
def revoke_api_key(*, prefix: str, reason: str, actor: Actor) -> ApiKey:
    """Revoke a key at once. A second call changes nothing. The logs name the actor.

    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises ApiKeyNotFound: no key has this prefix.
    """
    require_reason(reason)
    revoked_now = ApiKey.objects.filter(prefix=prefix, revoked_at__isnull=True).update(revoked_at=Now())
    key = ApiKey.objects.select_related("partner").filter(prefix=prefix).first()
    if key is None:
        raise ApiKeyNotFound
    if revoked_now:
        _record(DeskEntry.Kind.REVOKED, key, {}, reason, actor)
        partner_name = key.partner.name
        transaction.on_commit(lambda: log.info("api_key_revoked", prefix=prefix, partner=partner_name, by=actor.name))
    return key


@transaction.atomic
def set_api_key_rate_limit(*, prefix: str, calls_per_minute: int | None, reason: str = "", actor: Actor) -> ApiKey:
    """Set the rate limit of a key, from the next call on. The logs name the actor.

    Locks the key.

    :param calls_per_minute: 0 for no limit, None for the limit of the service.
    :raises ApiKeyNotFound: no key has this prefix.
    :raises InvalidValue: the limit is out of range.
    """
    _validate_rate_limit(calls_per_minute)
    key = ApiKey.objects.select_related("partner").filter(prefix=prefix).locked().first()
    if key is None:
        raise ApiKeyNotFound
    before, after = ({"calls_per_minute": calls} for calls in (key.calls_per_minute, calls_per_minute))
    ApiKey.objects.filter(pk=key.pk).update(calls_per_minute=calls_per_minute)
    key.calls_per_minute = calls_per_minute
    audit_log.record_change(
        about="apikey", subject=prefix, partner_id=key.partner_id, before=before, after=after, reason=reason, actor=actor
    )
    fields = {"prefix": prefix, "partner": key.partner.name, "calls_per_minute": calls_per_minute, "by": actor.name}
    transaction.on_commit(lambda: log.info("api_key_limited", **fields))
    return key


def digest_key(text: str) -> bytes:
    """Compute the SHA-256 digest of the whole text of a key."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def parse_key_prefix(text: str) -> str | None:
    """Return the prefix of a key, or None for text that does not have the form of a key.

    >>> parse_key_prefix("bk_0123456789ab_" + 64 * "0")
    '0123456789ab'
    """
    return found[1] if (found := KEY_PATTERN.fullmatch(text)) else None


def _record(kind: DeskEntry.Kind, key: ApiKey, data: dict[str, Any], reason: str, actor: Actor) -> None:
    audit_log.record(kind=kind, about="apikey", subject=key.prefix, partner_id=key.partner_id, reason=reason, data=data, actor=actor)


def _validate_rate_limit(calls_per_minute: int | None) -> None:
    if calls_per_minute is not None and not 0 <= calls_per_minute <= MAX_CALLS_PER_MINUTE:
        raise InvalidValue(sentence("A key is limited to 0 (no limit) to %(number)s calls a minute.", number=MAX_CALLS_PER_MINUTE))
