"""Reserves limited stock: the one place that decides what is short, and whether lapsed sessions must give stock back first."""

from collections.abc import Mapping
from datetime import datetime

from baskets.domain.checkout import purchase_limits
from baskets.domain.checkout.pricing import CatalogEntry
from baskets.domain.errors import Shortage
from baskets.domain.retries import StockReclaimable, may_reclaim
from baskets.domain.stock import counters
from baskets.models import StockReservation


def appear_in_stock(wanted: Mapping[str, int], entries: Mapping[str, CatalogEntry], *, percent: int) -> bool:
    """Return whether the last read showed enough of every product, so that the reservation can be sent without waiting for it.

    A partner's share must be checked after the reservation, so where it is limited the answer is False.

    :param percent: the partner's share, see `purchase_limits.share_percent`; 0: no limit.
    """
    return not percent and all(entries[product_id].available >= pieces for product_id, pieces in wanted.items())


def reserve_within_share(wanted: Mapping[str, int], *, partner_id: int, percent: int, at: datetime) -> dict[str, Shortage]:
    """Reserve all pieces of each product, or none of it, up to the partner's share.

    Locks the stock rows by primary key.

    :param wanted: pieces by product.
    :param percent: the partner's share, see `purchase_limits.share_percent`; 0: no limit.
    :returns: the shortages by product; every other product is reserved.
    :raises StockReclaimable: lapsed sessions hold what is short, and this try may reclaim it.
    """
    shortages = reserve(wanted)
    reserved = {product_id: pieces for product_id, pieces in wanted.items() if product_id not in shortages}
    if over_share := purchase_limits.over_partner_share(partner_id=partner_id, percent=percent, reserved=reserved, at=at):
        counters.release({product_id: reserved[product_id] for product_id in over_share})
    return shortages | over_share


def reserve(wanted: Mapping[str, int], *, retry_always: bool = False) -> dict[str, Shortage]:
    """Reserve all pieces of each product, or none of it.

    Locks the stock rows by primary key.

    :param wanted: pieces by product.
    :param retry_always: whether a shortage that may be reclaimed needs a second try even where no session has lapsed.
    :returns: the shortages by product, in order of product; every other product is reserved.
    :raises StockReclaimable: lapsed sessions hold what is short, or held it a moment ago, and this try may reclaim it.
    """
    short = counters.reserve(wanted)
    if not short:
        return {}
    # In this order: a lapsed session that ends between the two reads is seen by the first, or its pieces by the second.
    reclaim = may_reclaim()
    may_be_reclaimed = reclaim and (retry_always or StockReservation.objects.lapsed(short).exists())
    levels = counters.read_levels(short)
    if may_be_reclaimed or (reclaim and any(levels[product_id].available >= wanted[product_id] for product_id in short)):
        raise StockReclaimable(needed={key: wanted[key] - levels[key].available + levels[key].shortfall for key in short})
    # Pieces that came free after the reservation failed are not offered to this call, so at least one piece is missing.
    return {
        key: Shortage(product_id=key, wanted=wanted[key], available=min(levels[key].available, wanted[key] - 1)) for key in sorted(short)
    }
