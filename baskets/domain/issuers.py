"""The issuers whose tokens a partner trusts: trusted, changed and distrusted. How a token is checked: `tokens`."""

from collections.abc import Iterable
from typing import Any

import structlog
from django.db import transaction

from baskets import outside
from baskets.domain import guests
from baskets.domain.actors import Actor
from baskets.domain.errors import Refusal
from baskets.domain.keysets import UnusableKey, parse_jwks
from baskets.domain.partners import (
    NAME_LIMIT,
    PartnerUnknown,
    UnusableValue,
    require_printable,
)
from baskets.models import Partner, TokenIssuer
from baskets.models.issuers import ALGORITHMS

log = structlog.get_logger(__name__)

CLAIM_LIMIT = 255
DEFAULT_ALGORITHMS = ("RS256", "ES256", "EdDSA")


class IssuerUnknown(Refusal):
    """The partner trusts no issuer of this name."""

    reason = "issuer_unknown"
    message = "This partner trusts no issuer of this name."


@transaction.atomic
def trust_issuer(
    *,
    partner_name: str,
    name: str,
    issuer: str = "",
    audience: str = "",
    algorithms: Iterable[str] = DEFAULT_ALGORITHMS,
    keys: Any = None,
    keys_url: str = "",
    actor: Actor,
) -> TokenIssuer:
    """Trust the tokens of an issuer for baskets of one partner, from the next call on.

    An issuer that is trusted under this name already is replaced. Who did it stands in the log.
    Locks the partner, so that two callers of one name come one after the other.

    :param name: what the issuer is called here.
    :param issuer: what `iss` must be, and :param audience: what `aud` must contain; empty for anything.
    :param keys: a JSON Web Key Set, or :param keys_url: the address where the issuer publishes it.
    :raises PartnerUnknown: there is no partner of this name.
    :raises UnusableValue: something about it cannot be trusted.
    """
    require_printable(name, limit=NAME_LIMIT, what="An issuer's name")
    for value, what in ((issuer, "What `iss` must be"), (audience, "What `aud` must be")):
        if value:
            require_printable(value, limit=CLAIM_LIMIT, what=what)
    if issuer == guests.ISSUER:
        raise UnusableValue("That is how the tokens of our own guests are called.")
    chosen = sorted(set(algorithms))
    if not chosen or not set(chosen) <= set(ALGORITHMS):
        raise UnusableValue(f"The algorithms are some of {', '.join(ALGORITHMS)}: signatures with a public key.")
    _require_source(keys=keys, keys_url=keys_url, algorithms=chosen)
    partner = Partner.objects.select_for_update(no_key=True).filter(name=partner_name).first()
    if partner is None:
        raise PartnerUnknown
    said = {"issuer": issuer, "audience": audience, "algorithms": chosen, "keys": keys, "keys_url": keys_url}
    trusted, _ = TokenIssuer.objects.update_or_create(partner=partner, name=name, defaults={**said, "created_by": actor.name})
    transaction.on_commit(lambda: log.info("issuer_trusted", partner=partner_name, issuer=name, by=actor.name))
    return trusted


@transaction.atomic
def distrust_issuer(*, partner_name: str, name: str, actor: Actor) -> None:
    """Distrust an issuer: its tokens are refused from the next call on. Who did it stands in the log.

    :raises IssuerUnknown: the partner trusts none of this name.
    """
    gone, _ = TokenIssuer.objects.filter(partner__name=partner_name, name=name).delete()
    if not gone:
        raise IssuerUnknown
    transaction.on_commit(lambda: log.info("issuer_distrusted", partner=partner_name, issuer=name, by=actor.name))


def _require_source(*, keys: Any, keys_url: str, algorithms: list[str]) -> None:
    if (keys is None) == (not keys_url):
        raise UnusableValue("Either the keys are given, or the address at which they are published.")
    if keys_url:
        try:
            outside.checked_url(keys_url)
        except outside.ForbiddenAddress as error:
            raise UnusableValue(str(error)) from error
        return
    try:
        found, wrong = parse_jwks(keys)
    except UnusableKey as error:
        raise UnusableValue(str(error)) from error
    if wrong:
        raise UnusableValue(" ".join(wrong))
    if not any(key.algorithms & set(algorithms) for key in found):
        raise UnusableValue("None of the keys is for one of the algorithms.")
