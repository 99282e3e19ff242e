"""Opens the sandbox of a partner: a partner beside it, for tests, and the products that sandboxes sell."""

from django.db import transaction

from baskets.domain.access import partners
from baskets.domain.actors import Actor
from baskets.domain.stock import sandbox_catalog
from baskets.models import Partner


@transaction.atomic
def open_sandbox(*, partner_name: str, actor: Actor) -> Partner:
    """Return the sandbox of a partner, ready for its first key. Safe to run twice and in parallel.

    Locks the partner, then the stock rows of the products that are created, by primary key.
    Source: `baskets/docs/adr/0053-a-sandbox-beside-each-partner.md`.

    :raises PartnerNotFound: no partner has this name.
    :raises PartnerNameTaken: another partner has the name of the sandbox.
    :raises InvalidValue: the name of the sandbox would be too long.
    """
    sandbox = partners.ensure_sandbox(partner_name=partner_name, actor=actor)
    sandbox_catalog.ensure_catalog()
    return sandbox
