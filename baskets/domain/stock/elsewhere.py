"""What the other cells have of a product, as `rebalance_stock` last wrote it down. Nothing is decided by it: see ADR 62."""

import time
from collections.abc import Iterable

from baskets import conf
from baskets.models import StockElsewhere

# A crowd starts checkouts of a sold-out product, and each read would have the same result.
SECONDS_BETWEEN_READS = 5.0
# Whether other cells have some, by product, and until when that need not be read again by this process.
_known: dict[str, tuple[float, bool]] = {}
MAX_KNOWN = 10_000


def available_elsewhere(product_ids: Iterable[str]) -> set[str]:
    """Return those products of which other cells have some. Reads at most once in 5 seconds for a product, and nothing without cells.

    :param product_ids: products of which this cell has too little.
    """
    if not conf.cell():
        return set()
    chosen, now = set(product_ids), time.monotonic()
    if unknown := [product_id for product_id in chosen if _known.get(product_id, (0.0, False))[0] < now]:
        found = set(StockElsewhere.objects.filter(pk__in=unknown, available__gt=0).values_list("pk", flat=True))
        if len(_known) > MAX_KNOWN:
            _known.clear()
        _known.update({product_id: (now + SECONDS_BETWEEN_READS, product_id in found) for product_id in unknown})
    return {product_id for product_id in chosen if _known.get(product_id, (0.0, False))[1]}
