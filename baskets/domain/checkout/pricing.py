"""Reads catalog entries for a checkout, and adds up prices: whether a product can be bought, and for how much."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

from baskets.db.pipeline import PendingResult, execute
from baskets.db.statements import Statement
from baskets.models.basket_snapshot import BasketLine

CATALOG_ENTRIES = """
SELECT p.product_id, p.listed, coalesce(s.limited, false), p.price, p.currency, coalesce(s.available, 0)
FROM baskets_product p LEFT JOIN baskets_stock s USING (product_id)
WHERE p.product_id {which}
"""
READ_ENTRIES = Statement("read_entries", CATALOG_ENTRIES.format(which="= ANY(%s)"))
READ_CART_ENTRIES = Statement(
    "read_cart_entries",
    CATALOG_ENTRIES.format(which="IN (SELECT product_id FROM baskets_basketitem WHERE basket_id = %s AND list = 'cart')"),
)


class CatalogEntry(NamedTuple):
    """One product as the catalog has it now.

    :param price: minor units of `currency` for one piece; None if the catalog has no price.
    :param available: pieces that were available at the read, which takes no lock.
    :param most: pieces that one checkout finds in stock; None for all.
    """

    listed: bool
    limited: bool
    price: int | None
    currency: str
    available: int = 0
    most: int | None = None


def enqueue_cart_entries(basket_id: UUID) -> PendingResult:
    """Enqueue the read of the entries of a cart's products, before the cart itself is read; `entries_from_rows` takes the result.

    Needs the basket's lock, which the statement before may request.
    """
    return execute(READ_CART_ENTRIES, [basket_id])


def read_entries(lines: tuple[BasketLine, ...]) -> dict[str, CatalogEntry]:
    """Read the catalog entries of these lines, by product."""
    return entries_from_rows(execute(READ_ENTRIES, [[line.product_id for line in lines]]))


def entries_from_rows(rows: Iterable[tuple[Any, ...]]) -> dict[str, CatalogEntry]:
    """Build catalog entries from rows, by product."""
    return {product_id: CatalogEntry(*entry) for product_id, *entry in rows}


def total_price(lines: tuple[BasketLine, ...], entries: Mapping[str, CatalogEntry]) -> tuple[int | None, str]:
    """Add up the prices of the lines that can be ordered.

    :param entries: by product.
    :returns: minor units, and their currency; None and an empty text if a price is missing, or if currencies differ.
    """
    bought = [(entries[line.product_id], line.count) for line in lines if not line.failed]
    currencies = {entry.currency for entry, _ in bought}
    if len(currencies) != 1 or any(entry.price is None for entry, _ in bought):
        return None, ""
    return sum((entry.price or 0) * count for entry, count in bought), currencies.pop()
