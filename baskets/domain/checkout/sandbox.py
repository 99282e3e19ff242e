"""What differs in a checkout of the sandbox. `stock.sandbox_catalog` says which product does what; nothing here runs for other partners.

Source: `baskets/docs/adr/0053-a-sandbox-beside-each-partner.md`.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import timedelta

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.access import rate_limits
from baskets.domain.checkout.pricing import CatalogEntry
from baskets.domain.errors import Busy, Shortage
from baskets.domain.retries import RetryTransaction, end_reclaiming, may_reclaim
from baskets.domain.stock import sandbox_catalog
from baskets.models.basket_snapshot import BasketSnapshot

# How long a start that was refused as busy is remembered.
BUSY_WINDOW = timedelta(days=1)
WAS_REFUSED = Statement("sandbox_was_refused", "SELECT FROM baskets_throttle WHERE subject = %s AND ends_at > statement_timestamp()")


class SandboxBusy(RetryTransaction):
    """The start must be refused as busy. That is remembered outside of the transaction, which the refusal rolls back.

    :param subject: names the basket and its revision.
    """

    def __init__(self, subject: str) -> None:
        super().__init__("the sandbox refuses the first start of this cart")
        self._subject = subject

    def prepare(self) -> None:
        """Remember the refusal, and refuse.

        :raises Busy: always.
        """
        rate_limits.hit(subject=self._subject, limit=1, window=BUSY_WINDOW)
        raise Busy


class SandboxUsedUp(RetryTransaction):
    """Tests have used up the stock of products of which the sandbox never runs out."""

    def __init__(self, product_ids: Collection[str]) -> None:
        super().__init__(f"the sandbox needs stock of {len(product_ids)} products")
        self._product_ids = product_ids

    def prepare(self) -> None:
        """Report their stock again, in its own transaction. The next try reserves what is available then."""
        sandbox_catalog.refill(self._product_ids)
        end_reclaiming()


def terms_of_start(
    basket: BasketSnapshot, entries: Mapping[str, CatalogEntry], *, hold: timedelta
) -> tuple[Mapping[str, CatalogEntry], timedelta]:
    """Return the catalog entries and the length of the hold with which a checkout of this basket starts.

    Outside of a sandbox, these are the given ones. A cart with a product that is busy once is refused at its first start; any
    change of the basket makes it a new cart.

    :raises SandboxBusy: this is the first start of such a cart.
    :param hold: the length of the hold outside of a sandbox.
    :returns: the entries by product, and the length of the hold.
    """
    if not basket.sandbox:
        return entries, hold
    products = {product_id: sandbox_catalog.behavior(product_id) for product_id in entries}
    if any(product.busy_once for product in products.values()):
        subject = f"busy:{basket.basket_id.hex}:{basket.revision}"
        if execute(WAS_REFUSED, [subject]).fetchone() is None:
            raise SandboxBusy(subject)
    changed = {
        product_id: entries[product_id]._replace(listed=entries[product_id].listed and not product.unlisted_at_start, most=product.most)
        for product_id, product in products.items()
    }
    return changed, min((product.hold for product in products.values() if product.hold), default=hold)


def check_used_up(basket: BasketSnapshot, product_ids: Iterable[str]) -> None:
    """Have the stock of products reported again of which a sandbox never runs out. Needed at most once in a unit of work.

    :raises SandboxUsedUp: the basket is of a sandbox, and there are such products among these.
    """
    if basket.sandbox and may_reclaim() and (used_up := sandbox_catalog.refillable(product_ids)):
        raise SandboxUsedUp(used_up)


def gone_when_late(wanted: Mapping[str, int]) -> dict[str, Shortage]:
    """Return the shortages of the products that a late order finds gone, by product.

    :param wanted: pieces by product.
    """
    return {
        product_id: Shortage(product_id=product_id, wanted=pieces, available=0)
        for product_id, pieces in wanted.items()
        if sandbox_catalog.behavior(product_id).gone_when_late
    }
