"""Shops with baskets in every state, and a shop that stands for all tests of a module."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils.timezone import now

from baskets.domain import comfort, idempotency, runner
from baskets.domain.access import api_keys, guest_tokens, signing_keys, token_issuers
from baskets.domain.actors import Actor
from baskets.domain.baskets import transfers
from baskets.domain.events import webhook_endpoints
from baskets.domain.support import assignments
from baskets.models import Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User as Buyer
from tests.factories import TESTER, ProductFactory


@dataclass
class Shop:
    """A partner's shop: products, and buyers in every state."""

    partner: Partner

    def buyer(self, user_id: str) -> Buyer:
        """A user of the partner."""
        return Buyer(Owner(partner_id=self.partner.pk, user_id=user_id))

    def product(self, product_id: str, unsold: int | None = None, **fields: Any) -> str:
        """A product, unlimited by default."""
        return str(ProductFactory(product_id=product_id, unsold=unsold, **fields).pk)


def fill(shop: Shop) -> Shop:
    """Let everything happen once to the baskets of a shop."""
    shop.product("lamp", 9)
    shop.product("song")
    for user_id in ("ann", "ben", "cid"):
        buyer = shop.buyer(user_id)
        buyer.place("lamp", 2)
        buyer.place("song")
        buyer.start()
        buyer.place("song", 0)
    shop.buyer("ann").finish(True)
    aborted = shop.buyer("ben")
    aborted.pay_after_abort()
    return shop


def fill_all_tables(shop: Shop) -> Shop:
    """Fill a shop, and every other table as well."""
    fill(shop)
    api_keys.issue_api_key(partner_name=shop.partner.name, actor=TESTER)
    signing_keys.current_signer()
    token_issuers.add_issuer(
        partner_name=shop.partner.name, name="login", keys_url="https://example.com/", audience="baskets", actor=Actor.system("tests")
    )
    owner = shop.buyer("ann").owner
    comfort.change_comfort(owner=owner, values={"customer_id": "cust-4711"}, consent=True)
    transfers.offer_transfer(owner=owner, actor=TESTER)
    runner.run(lambda: guest_tokens.issue_guest_token(owner=owner, at=now()))
    basket_id = shop.buyer("ann").owner.basket_id

    def remember() -> None:
        idempotency.claim(basket_id=basket_id, key="key-1", fingerprint=b"0" * 32)
        idempotency.remember(basket_id=basket_id, key="key-1", status=200, body="{}")

    runner.run(remember)
    webhook_endpoints.create_webhook(partner_name=shop.partner.name, url="https://example.com/", actor=TESTER)
    found = [{"slug": "supply_equation", "rule": 1, "sentence": "It adds up.", "total": 2, "examples": []}]
    runner.run(lambda: assignments.record_check(checked=40, found=found, actor=Actor.system("check_baskets")))
    return shop


@contextmanager
def kept_for_a_module(database: Any) -> Iterator[None]:
    """Keep what a block makes for all tests of a module. Their transactions are savepoints in its transaction, of which nothing stays.

    :param database: pytest-django's `django_db_blocker`.
    """
    with database.unblock():
        around = transaction.atomic()
        around._from_testcase = True  # type: ignore[attr-defined] # As Django marks its own: durable transactions may begin inside.
        with around:
            yield
            transaction.set_rollback(True)
