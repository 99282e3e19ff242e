"""Limits on the stock that one user or one partner may hold at once.

They are off unless an operator sets them. Each is decided under a lock: of the basket, or of the stock rows. A limit never ends
an existing hold. Limits of client keys are in `access.client_limits`.
Source: `baskets/docs/adr/0023-purchase-limits-look-like-sold-out.md`, `baskets/docs/adr/0035-limits-against-a-stolen-key.md`.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from baskets import conf
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.errors import Shortage, Throttled
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot

HOUR = timedelta(hours=1)

# The oldest of the latest starts that fill the limit: one hour after it, the next start is allowed.
LIMITING_START = Statement(
    "limiting_start",
    """
SELECT started_at FROM baskets_checkoutsession
WHERE basket_id = %s AND started_at > %s AND NOT test_mode
ORDER BY started_at DESC OFFSET %s LIMIT 1
""",
)
# Runs after the statement that locks the stock rows, so it sees every reservation of these products, and no transaction adds
# one before this transaction ends. Pieces of lapsed checkouts do not count, because every buyer may reclaim them. Orders that
# the partner's client keys reported within the hour count as held, because such keys can be stolen. The sums are LATERAL: a plan
# of a join that was made while nothing was held reads the holds on all products.
PARTNER_SHARES = Statement(
    "partner_shares",
    """
SELECT s.product_id, s.available + held.pieces, held.of_partner, (
    SELECT coalesce(sum(sold.pieces), 0)::bigint
    FROM baskets_stockreservation sold
    JOIN baskets_checkoutsession c ON c.id = sold.session_id
    JOIN baskets_apikey k ON k.prefix = c.finished_by_key
    WHERE sold.product_id = s.product_id AND sold.status = 'SOLD' AND sold.ended_at > %(since)s::timestamptz
          AND c.partner_id = %(partner)s AND k.kind = 'client'
)
FROM baskets_stock s
CROSS JOIN LATERAL (
    SELECT coalesce(sum(r.pieces), 0)::bigint AS pieces,
           coalesce(sum(r.pieces) FILTER (WHERE b.partner_id = %(partner)s AND r.expires_at > %(at)s), 0)::bigint AS of_partner
    FROM baskets_stockreservation r LEFT JOIN baskets_basket b ON b.id = r.basket_id
    WHERE r.product_id = s.product_id AND r.status = 'HELD'
) held
WHERE s.product_id = ANY(%(products)s)
""",
)


def over_checkout_limit(lines: Iterable[BasketLine], snapshot: BasketSnapshot, *, by_client_key: bool) -> dict[str, int]:
    """Find the lines that exceed the limit of one checkout; earlier lines use up the limit first.

    A new guest of a client key holds few pieces in all, because a script creates guests faster than a viewer buys.

    :param lines: the lines of limited products.
    :returns: the pieces over the limit, by product.
    """
    of_one = conf.pieces_per_checkout() or math.inf
    new = by_client_key and snapshot.guest and snapshot.at < snapshot.created_at + conf.new_guest_age()
    left: float = (conf.new_guest_pieces() if new else 0) or math.inf
    over_limit = {}
    for line in lines:
        room = min(of_one, left)
        if line.count > room:
            over_limit[line.product_id] = line.count - int(room)
        else:
            left -= line.count
    return over_limit


def check_start_rate(snapshot: BasketSnapshot) -> None:
    """Check that the user has not reached the limit of starts within an hour. Needs the basket's lock.

    :raises Throttled: the limit is reached.
    """
    limit = conf.starts_per_hour()
    if limit and (row := execute(LIMITING_START, [snapshot.basket_id, snapshot.at - HOUR, limit - 1]).fetchone()):
        raise Throttled(seconds=max(1, math.ceil((row[0] + HOUR - snapshot.at).total_seconds())))


def share_percent(snapshot: BasketSnapshot) -> int:
    """Return the partner's share of the unsold pieces of a product, in percent; 0: no limit."""
    return conf.partner_share_percent() if snapshot.share_override is None else snapshot.share_override


def over_partner_share(*, partner_id: int, percent: int, reserved: Mapping[str, int], at: datetime) -> dict[str, Shortage]:
    """Find the reserved pieces that exceed a partner's share of a product. Needs the locks of the stock rows.

    The share is a percentage of all unsold pieces, rounded up, so that the last piece can be sold. Pieces that the partner's client
    keys have sold within the hour count as unsold and as held.

    :param percent: the share, see `share_percent`; 0: no limit.
    :param reserved: pieces by product, each held by a reservation of this transaction.
    :returns: the shortages by product; empty if no share is exceeded.
    """
    if not percent or not reserved:
        return {}
    over_limit = {}
    parameters = {"partner": partner_id, "at": at, "since": at - HOUR, "products": list(reserved)}
    for product_id, unsold, held, sold in execute(PARTNER_SHARES, parameters):
        free = math.ceil((unsold + sold) * percent / 100) - (held + sold - reserved[product_id])
        if free < reserved[product_id]:
            over_limit[product_id] = Shortage(product_id=product_id, wanted=reserved[product_id], available=max(free, 0))
    return over_limit
