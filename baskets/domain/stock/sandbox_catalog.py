"""The products of the sandbox: their ids say how a checkout treats them. Partners test with them what rarely happens.

Only baskets of a sandbox contain these products, and they contain no others. Planning reads the differences from here; locks,
reservations, expiry and late orders are those of every product.
Source: `baskets/docs/adr/0053-a-sandbox-beside-each-partner.md`, `baskets/docs/partners/testing.md`.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from baskets.models import Product, Stock
from baskets.models.products import is_sandbox_product

ACTOR = Actor.system("sandbox")
REASON = "supply of the sandbox"
# No crowd of tests sells it within a day; a start that finds less reports it again.
AMPLE_STOCK = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class SandboxProduct:
    """One product of the sandbox.

    :param stock: unsold pieces; None is unlimited.
    :param most: pieces that one checkout finds in stock; None for all.
    :param unlisted_at_start: whether a start treats it as a product that was unlisted after it was added.
    :param hold: how long a checkout with it lasts; None for the partner's time.
    :param gone_when_late: whether a late order finds none of it.
    :param busy_once: whether the first start with a cart that contains it is refused as busy.
    """

    name: str
    price: int = 1500
    stock: int | None = AMPLE_STOCK
    most: int | None = None
    unlisted_at_start: bool = False
    hold: timedelta | None = None
    gone_when_late: bool = False
    busy_once: bool = False


PRODUCTS = {
    "sandbox-plenty": SandboxProduct(name="Plenty in stock"),
    "sandbox-unlimited": SandboxProduct(name="Unlimited, such as a download", price=999, stock=None),
    "sandbox-last-one": SandboxProduct(name="The last one", price=8900, most=1),
    "sandbox-sold-out": SandboxProduct(name="Sold out", price=24900, stock=0),
    "sandbox-unlisted": SandboxProduct(name="Unlisted before the checkout", unlisted_at_start=True),
    "sandbox-short-hold": SandboxProduct(name="Held for five seconds", hold=timedelta(seconds=5)),
    "sandbox-gone-late": SandboxProduct(name="Gone at a late order", gone_when_late=True),
    "sandbox-busy-once": SandboxProduct(name="Busy at the first start", busy_once=True),
}
_ORDINARY = SandboxProduct(name="")


def behavior(product_id: str) -> SandboxProduct:
    """Return how a product of the sandbox behaves. A product of a former release behaves like any other."""
    return PRODUCTS.get(product_id, _ORDINARY)


def may_contain(product_id: str, *, sandbox: bool) -> bool:
    """Return whether a basket may contain a product: baskets of a sandbox contain products of the sandbox, and no others do."""
    return is_sandbox_product(product_id) == sandbox


def pieces_shown(product_id: str, available: int | None) -> int | None:
    """Return the pieces of a product of the sandbox that its details show: what one checkout finds. None is unlimited."""
    most = behavior(product_id).most
    return available if available is None or most is None else min(available, most)


@transaction.atomic(savepoint=False)
def ensure_catalog() -> None:
    """Create the products of the sandbox that are missing, with their stock. Safe to run twice and in parallel.

    Locks the stock rows of the products that lack one, by primary key.
    """
    products = [
        Product(product_id=product_id, name=product.name, price=product.price, currency="EUR") for product_id, product in PRODUCTS.items()
    ]
    Product.objects.bulk_create(products, ignore_conflicts=True)
    stocked = Stock.objects.filter(product_id__in=PRODUCTS).reported().values_list("product_id", flat=True)
    refill(PRODUCTS.keys() - set(stocked))


@transaction.atomic(savepoint=False)
def refill(product_ids: Collection[str]) -> None:
    """Report the initial stock of products of the sandbox.

    Locks their stock rows by primary key.
    """
    reports = {product_id: behavior(product_id).stock for product_id in sorted(product_ids)}
    if reports:
        supply.set_unsold(reports=reports, as_of=None, reason=REASON, actor=ACTOR)


def refillable(product_ids: Iterable[str]) -> list[str]:
    """Return those products of which the sandbox never runs out."""
    return [product_id for product_id in product_ids if behavior(product_id).stock == AMPLE_STOCK]
