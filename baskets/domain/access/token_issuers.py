"""The token issuers that a partner trusts: adds, replaces and removes them. Tokens are verified in `bearer_tokens`."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import structlog
from django.db import transaction
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.domain import audit_log
from baskets.domain.access import guest_tokens
from baskets.domain.access.jwks import InvalidKey, parse_jwks
from baskets.domain.access.partners import MAX_NAME_LENGTH, PartnerNotFound
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.validation import InvalidValue, validate_printable
from baskets.domain.wording import sentence
from baskets.models import DeskEntry, Partner, TokenIssuer
from baskets.models.token_issuers import ALGORITHMS
from baskets.net import outgoing_urls

log = structlog.get_logger(__name__)

MAX_CLAIM_LENGTH = 255
DEFAULT_ALGORITHMS = ("RS256", "ES256", "EdDSA")


class IssuerNotFound(Refusal):
    """The partner has no issuer of this name."""

    reason = "issuer_unknown"
    message = gettext_noop("This partner trusts no issuer of this name.")


@dataclass(frozen=True, kw_only=True)
class AddedIssuer:
    """The result of `add_issuer`.

    :param skipped: one sentence for each unusable key of the given set.
    """

    issuer: TokenIssuer
    skipped: tuple[str, ...]


@transaction.atomic
def add_issuer(
    *,
    partner_name: str,
    name: str,
    issuer: str = "",
    audience: str = "",
    algorithms: Iterable[str] = DEFAULT_ALGORITHMS,
    keys: Any = None,
    keys_url: str = "",
    unrestricted: bool = False,
    reason: str = "",
    actor: Actor,
) -> AddedIssuer:
    """Trust the tokens of an issuer for baskets of one partner, from the next call on. The logs name the actor.

    Replaces an issuer of the same name; keys fetched from the same URL stay. Skips unusable keys of the set. Does not fetch
    keys: call `jwks_cache.fetch_now` after the transaction.
    Locks the partner, so that two callers with one name run one after the other.

    :param name: identifies the issuer within the partner.
    :param issuer: the required `iss`; empty for any.
    :param audience: `aud` must be or contain it; empty for any.
    :param keys: a JSON Web Key Set. Exactly one of `keys` and `keys_url` is required.
    :param keys_url: the URL at which the issuer publishes its key set.
    :param unrestricted: must be true if both `issuer` and `audience` are empty: then every token that is signed with these
        keys is valid, also a token for another service.
    :raises PartnerNotFound: no partner has this name.
    :raises InvalidValue: a value or a combination of values is not allowed, or the set has no usable key.
    """
    validate_printable(name, limit=MAX_NAME_LENGTH, what=_("An issuer's name"))
    for value, what in ((issuer, _("What `iss` must be")), (audience, _("What `aud` must be"))):
        if value:
            validate_printable(value, limit=MAX_CLAIM_LENGTH, what=what)
    if issuer == guest_tokens.ISSUER:
        raise InvalidValue(sentence("That is how the tokens of our own guests are called."))
    if not (issuer or audience or unrestricted):
        raise InvalidValue(
            sentence(
                "Without `iss` and `aud`, every token that is signed with these keys is good, for whatever service it was made: "
                "give at least one of them, or say explicitly that all tokens are trusted."
            )
        )
    chosen = sorted(set(algorithms))
    if not chosen or not set(chosen) <= set(ALGORITHMS):
        raise InvalidValue(sentence("The algorithms are some of %(names)s: signatures with a public key.", names=", ".join(ALGORITHMS)))
    usable, skipped = _validate_key_source(keys=keys, keys_url=keys_url, algorithms=chosen)
    partner = Partner.objects.filter(name=partner_name).locked().first()
    if partner is None:
        raise PartnerNotFound
    values = {"issuer": issuer, "audience": audience, "algorithms": chosen, "keys": usable, "keys_url": keys_url}
    former = TokenIssuer.objects.filter(partner=partner, name=name).first()
    if former is None or former.keys_url != keys_url:
        values |= {"fetched_keys": None, "fetched_at": None, "fetch_problem": "", "fetch_lease": None, "next_fetch_at": None}
    row = TokenIssuer.objects.update_or_create(partner=partner, name=name, defaults={**values, "created_by": actor.name})[0]
    entry: dict[str, Any] = {"about": "tokenissuer", "subject": name, "partner_id": partner.pk, "reason": reason, "actor": actor}
    if former is None:
        audit_log.record(kind=DeskEntry.Kind.CREATED, data={"after": _settings(row)}, **entry)
    else:
        audit_log.record_change(before=_settings(former), after=_settings(row), **entry)
    transaction.on_commit(lambda: log.info("issuer_added", partner=partner_name, issuer=name, by=actor.name))
    return AddedIssuer(issuer=row, skipped=skipped)


@transaction.atomic
def remove_issuer(*, partner_name: str, name: str, reason: str = "", actor: Actor) -> None:
    """Remove an issuer. Its tokens are refused from the next call on. The logs name the actor.

    Locks the issuer.

    :raises IssuerNotFound: the partner has no issuer of this name.
    """
    row = TokenIssuer.objects.filter(partner__name=partner_name, name=name).locked().first()
    if row is None:
        raise IssuerNotFound
    before = {"before": _settings(row)}
    row.delete()
    audit_log.record(
        kind=DeskEntry.Kind.REMOVED, about="tokenissuer", subject=name, partner_id=row.partner_id, reason=reason, data=before, actor=actor
    )
    transaction.on_commit(lambda: log.info("issuer_removed", partner=partner_name, issuer=name, by=actor.name))


def _settings(issuer: TokenIssuer) -> dict[str, Any]:
    """Return what the audit log records of an issuer: its keys by their `kid`."""
    keys = (issuer.keys or {}).get("keys", ())
    settings = {name: getattr(issuer, name) for name in ("issuer", "audience", "algorithms", "keys_url")}
    return {**settings, "keys": [key.get("kid") for key in keys]}


def _validate_key_source(*, keys: Any, keys_url: str, algorithms: list[str]) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Validate the source of an issuer's keys: a key set or a URL.

    :returns: the usable keys as a key set, None for a URL; and one sentence for each unusable key.
    :raises InvalidValue: both or none are given, the URL is not allowed, or the set has no usable key.
    """
    if (keys is None) == (not keys_url):
        raise InvalidValue(sentence("Either the keys are given, or the address at which they are published."))
    if keys_url:
        try:
            outgoing_urls.validate_url(keys_url)
        except outgoing_urls.ForbiddenUrl as error:
            raise InvalidValue(str(error)) from error
        return None, ()
    try:
        found = parse_jwks(keys, algorithms=algorithms)
    except InvalidKey as error:
        raise InvalidValue(str(error)) from error
    return found.to_document(), found.skipped
