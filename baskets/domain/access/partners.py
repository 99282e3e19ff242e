"""Partners: creates them and changes their settings. Their keys are in `api_keys`, their token issuers in `token_issuers`."""

import re
from collections.abc import Iterable
from typing import Any, TypedDict, Unpack, cast

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.validation import InvalidValue, validate_printable
from baskets.domain.wording import sentence
from baskets.models import DeskEntry, Partner

log = structlog.get_logger(__name__)

MAX_NAME_LENGTH = 100
SANDBOX_SUFFIX = " (sandbox)"
# A hold keeps pieces from other buyers; more than a week is a typing error.
MAX_HOLD_SECONDS = 7 * 24 * 60 * 60
MAX_SHARE_PERCENT = 100
# Scheme, host and optional port, as browsers send them; no wildcard. Packaged apps have schemes of their frameworks, such as
# `capacitor://localhost`. `null` is the origin of hybrid television apps, and of every sandboxed page.
ORIGIN_PATTERN = re.compile(
    r"https?://(?:[a-z0-9-]+\.)*[a-z0-9-]+(?::[1-9][0-9]{0,4})?"
    r"|(?!file:|data:|blob:|javascript:)[a-z][a-z0-9+.-]*://(?:[a-z0-9-]+\.)*[a-z0-9-]+|null|https?://\[[0-9a-f:]+\](?::[1-9][0-9]{0,4})?",
    re.ASCII,
)
MAX_ORIGIN_LENGTH = 255
MAX_ORIGINS = 100
# How the audit log names a partner.
ABOUT = "partner"


class PartnerSettings(TypedDict, total=False):
    """What can be changed about a partner.

    :param late_orders: what to do with a late order whose stock is gone, one of `Partner.LateOrders`.
    :param hold_seconds: how long a checkout of this partner holds its stock; None for the default of the service.
    :param share_percent: the share of the unsold pieces of a product that its checkouts may hold at once, from 1 to 100; 0 for no
        limit, None for the default of the service.
    :param orders_need_server_key: whether only its server keys may report `ordered: true`.
    :param origins: the origins whose web pages may call with its keys, sorted.
    """

    late_orders: str
    hold_seconds: int | None
    share_percent: int | None
    orders_need_server_key: bool
    origins: list[str]


class PartnerNameTaken(Refusal):
    """Another partner has this name. Names identify partners in commands and in the admin."""

    reason = "partner_name_taken"
    message = gettext_noop("There is already a partner of this name.")


class PartnerNotFound(Refusal):
    """No partner has this name."""

    reason = "partner_unknown"
    message = gettext_noop("There is no partner of this name.")


def create_partner(*, name: str, actor: Actor, **settings: Unpack[PartnerSettings]) -> Partner:
    """Create a partner. Settings that are left out have the defaults of `Partner`.

    :raises PartnerNameTaken: a partner of this name exists.
    :raises InvalidValue: the name is empty, too long or not printable, or a setting is out of range.
    """
    validate_printable(name, limit=MAX_NAME_LENGTH, what=_("A partner's name"))
    _validate_settings(settings)
    try:
        with transaction.atomic():
            partner = Partner.objects.create(name=name, **settings)
            _record(DeskEntry.Kind.CREATED, partner, {"after": _settings(partner)}, actor)
            return partner
    except IntegrityError:
        if Partner.objects.filter(name=name).exists():
            raise PartnerNameTaken from None
        raise


@transaction.atomic
def ensure_sandbox(*, partner_name: str, actor: Actor) -> Partner:
    """Return the sandbox of a partner; create it if there is none. Safe to run twice and in parallel.

    A sandbox is a partner: its baskets, lists, events, webhooks, issuers and keys are its own. It begins with the settings of
    the partner, which do not follow later changes. Locks the partner.

    :returns: the sandbox; the partner itself if that is one.
    :raises PartnerNotFound: no partner has this name.
    :raises PartnerNameTaken: another partner has the name of the sandbox.
    :raises InvalidValue: the name of the sandbox would be too long.
    """
    partner = Partner.objects.filter(name=partner_name).locked().first()
    if partner is None:
        raise PartnerNotFound
    if partner.is_sandbox:
        return partner
    if sandbox := Partner.objects.filter(sandbox_of=partner).first():
        return sandbox
    sandbox = create_partner(name=f"{partner.name}{SANDBOX_SUFFIX}", actor=actor, **_settings(partner))
    Partner.objects.filter(pk=sandbox.pk).update(sandbox_of=partner)
    sandbox.refresh_from_db()
    return sandbox


def partner_and_sandbox(partner_name: str) -> list[int]:
    """Return the primary keys of a partner and, where it has one, its sandbox.

    :raises PartnerNotFound: no partner has this name.
    """
    found = Partner.objects.filter(Q(name=partner_name) | Q(sandbox_of__name=partner_name)).order_by("pk")
    if not found.filter(name=partner_name).exists():
        raise PartnerNotFound
    return list(found.values_list("pk", flat=True))


@transaction.atomic
def change_settings(*, partner_name: str, values: PartnerSettings, reason: str = "", actor: Actor) -> bool:
    """Change settings of a partner, from the next call on; of its origins, within seconds. The logs name the actor.

    A running checkout keeps the hold that it has. A browser may cache the old answer about an origin for ten minutes.
    Locks the partner.

    :param values: the settings to change, by name; the others stay.
    :returns: whether a value differs from the stored one.
    :raises PartnerNotFound: no partner has this name.
    :raises InvalidValue: a value is out of range.
    """
    _validate_settings(values)
    partner = Partner.objects.filter(name=partner_name).locked().first()
    if partner is None:
        raise PartnerNotFound
    changed: dict[str, Any] = {name: value for name, value in values.items() if getattr(partner, name) != value}
    if not changed:
        return False
    before = {name: getattr(partner, name) for name in changed}
    Partner.objects.filter(pk=partner.pk).update(**changed)
    audit_log.record_change(
        about=ABOUT, subject=partner.name, partner_id=partner.pk, before=before, after=changed, reason=reason, actor=actor
    )
    transaction.on_commit(lambda: log.info("partner_changed", partner=partner_name, by=actor.name, **changed))
    return True


def allow_origins(*, partner_name: str, origins: Iterable[str], reason: str = "", actor: Actor) -> list[str]:
    """Replace the origins whose web pages may call with the partner's keys. Locks the partner.

    :param origins: as a browser sends them, such as `https://player.example.com`.
    :returns: the stored origins, sorted.
    :raises PartnerNotFound: no partner has this name.
    :raises InvalidValue: a value is not an origin, or there are more than `MAX_ORIGINS`.
    """
    allowed = sorted(set(origins))
    change_settings(partner_name=partner_name, values={"origins": allowed}, reason=reason, actor=actor)
    return allowed


def _settings(partner: Partner) -> PartnerSettings:
    return cast("PartnerSettings", {name: getattr(partner, name) for name in PartnerSettings.__annotations__})


def _record(kind: DeskEntry.Kind, partner: Partner, data: dict[str, Any], actor: Actor) -> None:
    audit_log.record(kind=kind, about=ABOUT, subject=partner.name, partner_id=partner.pk, data=data, actor=actor)


def _validate_settings(values: PartnerSettings) -> None:
    """Check settings.

    :raises InvalidValue: a value is out of range.
    """
    if "late_orders" in values and values["late_orders"] not in Partner.LateOrders.values:
        raise InvalidValue(sentence("Late orders are either refused or accepted: `refuse` or `accept`."))
    if (hold_seconds := values.get("hold_seconds")) is not None and not 0 < hold_seconds <= MAX_HOLD_SECONDS:
        raise InvalidValue(sentence("A hold lasts from 1 to %(number)s seconds.", number=MAX_HOLD_SECONDS))
    if (share_percent := values.get("share_percent")) is not None and not 0 <= share_percent <= MAX_SHARE_PERCENT:
        raise InvalidValue(sentence("A share is 0 to %(number)s percent.", number=MAX_SHARE_PERCENT))
    origins = values.get("origins", [])
    if len(origins) > MAX_ORIGINS:
        raise InvalidValue(sentence("A partner has at most %(number)s origins.", number=MAX_ORIGINS))
    for origin in origins:
        if not ORIGIN_PATTERN.fullmatch(origin) or len(origin) > MAX_ORIGIN_LENGTH:
            raise InvalidValue(
                sentence(
                    "%(origin)s is not an origin: give scheme and host in small letters, as https://player.example.com.",
                    origin=repr(origin[:80]),
                )
            )
