"""What the catalogue offers to a checkout that starts: whether a product can be bought, and for how much."""

from collections.abc import Mapping
from dataclasses import dataclass

from baskets.models.contents import Line
from baskets.pipeline import execute

READ = """
SELECT p.product_id, p.listed, coalesce(s.limited, false), p.price, p.currency
FROM baskets_product p LEFT JOIN baskets_stock s USING (product_id)
WHERE p.product_id = ANY(%s)
"""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """One product as the catalogue has it now.

    :param price: minor units of `currency` for one piece, or None where prices are not kept.
    """

    listed: bool
    limited: bool
    price: int | None
    currency: str


def read_offers(lines: tuple[Line, ...]) -> dict[str, Offer]:
    """Read what the catalogue says of these lines, by product."""
    return {
        product_id: Offer(listed=listed, limited=limited, price=price, currency=currency)
        for product_id, listed, limited, price, currency in execute(READ, [[line.product_id for line in lines]])
    }


def full_price_of(lines: tuple[Line, ...], offers: Mapping[str, Offer]) -> tuple[int | None, str]:
    """Add up the lines that can be ordered: minor units and their currency.

    None and no currency where a price is not known, or where currencies differ.
    """
    bought = [(offers[line.product_id], line.count) for line in lines if not line.failed]
    currencies = {offer.currency for offer, _ in bought}
    if len(currencies) != 1 or any(offer.price is None for offer, _ in bought):
        return None, ""
    return sum((offer.price or 0) * count for offer, count in bought), currencies.pop()
