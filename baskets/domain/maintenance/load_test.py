"""The data of a load test: sets up a partner and a product, computes the stock balance, and tears them down.

All writes are domain calls, so the history of a load test obeys every rule and is purged like any other.
"""

import secrets
from dataclasses import dataclass

from django.db import connection
from django.db.models import Sum
from django.db.models.functions import Coalesce

from baskets.domain import runner
from baskets.domain.access import api_keys, partners
from baskets.domain.actors import Actor
from baskets.domain.baskets import lifecycle
from baskets.domain.checkout import sessions
from baskets.domain.errors import Refusal
from baskets.domain.stock import catalog
from baskets.models import ApiKey, Basket, CheckoutSession, Partner, Stock, StockAdjustment, StockReservation
from baskets.models.basket_snapshot import Owner

# The names are stored in existing databases.
PARTNER = "rehearsal"
PRODUCT = "rehearsal"
ACTOR = Actor.system("load_test")
# One load test at a time: two would remove each other's data. The number is arbitrary.
ACQUIRE_LOCK = "SELECT pg_try_advisory_lock(4410087213)"
RELEASE_LOCK = "SELECT pg_advisory_unlock(4410087213)"


class LoadTestRunning(Refusal):
    """Another load test is running on this database."""

    reason = "stage_taken"
    message = "Another load test is under way on this database."


@dataclass(frozen=True, kw_only=True)
class LoadTestSetup:
    """The input of a load test.

    :param key: the text of its API key.
    :param run: the prefix of its user ids.
    :param pieces: the stock of the product.
    :param sold_before: how many pieces earlier load tests have sold.
    """

    key: str
    run: str
    pieces: int
    sold_before: int


@dataclass(frozen=True, kw_only=True)
class StockBalance:
    """The stock of the product, in pieces: supply = available + held + sold - shortfall."""

    supply: int
    available: int
    held: int
    sold: int
    shortfall: int

    @property
    def adds_up(self) -> bool:
        """Return whether no piece is missing or sold twice."""
        return self.supply == self.available + self.held + self.sold - self.shortfall and self.available >= 0


def set_up(*, pieces: int) -> LoadTestSetup:
    """Remove what a killed load test left, then create the partner, its key and the product.

    Holds an advisory lock until `tear_down` or the end of the connection.

    :param pieces: the stock of the product.
    :raises LoadTestRunning: another load test holds the lock.
    """
    with connection.cursor() as cursor:
        cursor.execute(ACQUIRE_LOCK)
        if cursor.fetchone() != (True,):
            raise LoadTestRunning
    if Partner.objects.filter(name=PARTNER).exists():
        _clear()
    else:
        partners.create_partner(name=PARTNER, actor=ACTOR)
    _set_product(listed=True, pieces=pieces)
    _, key = api_keys.issue_api_key(partner_name=PARTNER, label="rehearsal", calls_per_minute=0, actor=ACTOR)
    return LoadTestSetup(key=key, run=secrets.token_hex(4), pieces=pieces, sold_before=stock_balance().sold)


def stock_balance() -> StockBalance:
    """Count the pieces of the product."""
    stock = Stock.objects.get(pk=PRODUCT)
    of_product = StockReservation.objects.filter(product_id=PRODUCT)
    pieces = {
        status: of_product.filter(status=status).aggregate(n=Coalesce(Sum("pieces"), 0))["n"]
        for status in (StockReservation.Status.HELD, StockReservation.Status.SOLD)
    }
    return StockBalance(
        supply=StockAdjustment.objects.filter(product_id=PRODUCT).aggregate(n=Coalesce(Sum("delta"), 0))["n"],
        available=stock.available,
        held=pieces[StockReservation.Status.HELD],
        sold=pieces[StockReservation.Status.SOLD],
        shortfall=stock.shortfall,
    )


def tear_down() -> None:
    """Revoke the key, abort the active checkouts, delete the baskets, unlist the product, and release the lock."""
    _clear()
    with connection.cursor() as cursor:
        cursor.execute(RELEASE_LOCK)


def _clear() -> None:
    partner = Partner.objects.get(name=PARTNER)
    for prefix in list(ApiKey.objects.valid().filter(partner=partner).values_list("prefix", flat=True)):
        api_keys.revoke_api_key(prefix=prefix, reason="the load test has ended", actor=ACTOR)
    in_checkout = CheckoutSession.objects.active().filter(basket__partner=partner)
    for user_id in list(in_checkout.values_list("basket__user_id", flat=True)):
        owner = Owner(partner_id=partner.pk, user_id=user_id)
        runner.run(sessions.finish_session, owner=owner, ordered=False, order_no=None, actor=ACTOR)
    for user_id in list(Basket.objects.filter(partner=partner, hidden_at__isnull=True).values_list("user_id", flat=True)):
        runner.run(lifecycle.delete_basket, owner=Owner(partner_id=partner.pk, user_id=user_id), actor=ACTOR)
    _set_product(listed=False, pieces=0)


def _set_product(*, listed: bool, pieces: int) -> None:
    row = catalog.ProductRow(product_id=PRODUCT, name="Rehearsal, not for sale", listed=listed, stock=pieces)
    catalog.import_products(rows=[row], as_of=None, reason="rehearsal", actor=ACTOR)
