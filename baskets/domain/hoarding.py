"""Limits on what one user or one partner may keep from everybody else. All are off unless an operator sets them.

Each is decided under a lock: of the basket, or of the stock rows. A hold that was given is never taken away.
Source: `baskets/docs/adr/0023-hoarding-is-told-as-sold-out.md`.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta

from baskets import conf
from baskets.domain.errors import MissingStock, Throttled
from baskets.models.contents import Contents, Line
from baskets.pipeline import execute

HOUR = timedelta(hours=1)

# The oldest of the latest starts that fill the limit: when it is an hour old, the next one may come.
FILLING_START = """
SELECT started_at FROM baskets_checkoutsession
WHERE basket_id = %s AND started_at > %s AND NOT test_mode
ORDER BY started_at DESC OFFSET %s LIMIT 1
"""
# By a statement of its own after the stock rows were locked: whoever took pieces of these products before has committed,
# and nobody takes more until this transaction ends. What a partner's lapsed checkouts hold is anybody's to reclaim.
SHARES = """
SELECT s.product_id, s.available + coalesce(sum(r.pieces), 0)::bigint,
       coalesce(sum(r.pieces) FILTER (WHERE b.partner_id = %s AND r.expires_at > %s), 0)::bigint
FROM baskets_stock s
LEFT JOIN baskets_stockreservation r ON r.product_id = s.product_id AND r.status = 'HELD'
LEFT JOIN baskets_basket b ON b.id = r.basket_id
WHERE s.product_id = ANY(%s)
GROUP BY s.product_id
"""


def refuse_frequent_starts(contents: Contents) -> None:
    """Refuse a checkout to whoever has started as many within the hour as may be. Needs the basket's lock.

    :raises Throttled: there were too many.
    """
    limit = conf.starts_per_hour()
    if limit and (row := execute(FILLING_START, [contents.basket_id, contents.at - HOUR, limit - 1]).fetchone()):
        raise Throttled(seconds=max(1, math.ceil((row[0] + HOUR - contents.at).total_seconds())))


def beyond_one_checkout(line: Line) -> int:
    """Tell how many pieces of a limited product are more than one checkout may hold."""
    limit = conf.pieces_per_checkout()
    return max(line.count - limit, 0) if limit else 0


def beyond_share(*, partner_id: int, taken: Mapping[str, int], at: datetime) -> dict[str, MissingStock]:
    """Tell which of the pieces just taken bring a partner beyond its share of a product. Needs the locks of the stock rows.

    The share is one of all unsold pieces, rounded up, so that the last piece can be had.

    :param taken: pieces by product; they are held by a reservation already.
    """
    percent = conf.partner_share_percent()
    if not percent or not taken:
        return {}
    beyond = {}
    for product_id, unsold, held in execute(SHARES, [partner_id, at, list(taken)]):
        free = math.ceil(unsold * percent / 100) - (held - taken[product_id])
        if free < taken[product_id]:
            beyond[product_id] = MissingStock(product_id=product_id, wanted=taken[product_id], available=max(free, 0))
    return beyond
