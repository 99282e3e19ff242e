"""Limits on what one user, one partner, one client key or one source may keep from all others.

Those of users and partners are off unless an operator sets them, and each is decided under a lock: of the basket, or of the
stock rows. Those of client keys and sources are on, and are counted in blocks. A hold that was given is never taken away.
Source: `baskets/docs/adr/0023-purchase-limits-look-like-sold-out.md`, `baskets/docs/adr/0035-limits-against-a-stolen-key.md`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta

import structlog

from baskets import conf
from baskets.db.pipeline import Statement, execute
from baskets.domain.access import rate_limits
from baskets.domain.errors import Shortage, Throttled
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot

log = structlog.get_logger("baskets.limits")

HOUR = timedelta(hours=1)

# The oldest of the latest starts that fill the limit: when it is an hour old, the next one may come.
LIMITING_START = Statement(
    "limiting_start",
    """
SELECT started_at FROM baskets_checkoutsession
WHERE basket_id = %s AND started_at > %s AND NOT test_mode
ORDER BY started_at DESC OFFSET %s LIMIT 1
""",
)
# By a statement of its own after the stock rows were locked: whoever took pieces of these products before has committed,
# and nobody takes more until this transaction ends. What a partner's lapsed checkouts hold is anybody's to reclaim.
# What the partner's client keys have reported as ordered within the hour counts as held: anyone can call with such a key.
PARTNER_SHARES = Statement(
    "partner_shares",
    """
SELECT s.product_id, s.available + coalesce(sum(r.pieces), 0)::bigint,
       coalesce(sum(r.pieces) FILTER (WHERE b.partner_id = %(partner)s AND r.expires_at > %(at)s), 0)::bigint,
       (
           SELECT coalesce(sum(sold.pieces), 0)::bigint
           FROM baskets_stockreservation sold
           JOIN baskets_checkoutsession c ON c.id = sold.session_id
           JOIN baskets_apikey k ON k.prefix = c.finished_by_key
           WHERE sold.product_id = s.product_id AND sold.status = 'SOLD' AND sold.ended_at > %(since)s::timestamptz
                 AND c.partner_id = %(partner)s AND k.kind = 'client'
       )
FROM baskets_stock s
LEFT JOIN baskets_stockreservation r ON r.product_id = s.product_id AND r.status = 'HELD'
LEFT JOIN baskets_basket b ON b.id = r.basket_id
WHERE s.product_id = ANY(%(products)s)
GROUP BY s.product_id
""",
)


class ClientLimits:
    """What one call with a client key counts against the limits of its key and of its source.

    What is counted is what the call will have done: an amount that is counted again replaces the one before, so a call that
    is tried again counts once.

    :param key: the prefix of the key.
    :param source: the address or network that calls.
    """

    def __init__(self, *, key: str, source: str) -> None:
        self._subjects = {"key": key, "source": rate_limits.anonymous_subject("source", source)}
        self._counted: dict[str, int] = {}

    def count(self, **amounts: int) -> None:
        """Count guests, starts or pieces.

        :raises Throttled: a limit is reached.
        :raises LimitBlockUsedUp: this process must take counts first.
        """
        for what, amount in amounts.items():
            for per, name in self._subjects.items():
                most = conf.client_limit(what, per=per)
                subject = f"{what}:{name}"
                more = amount - self._counted.get(subject, 0)
                if not most or not more:
                    continue
                try:
                    rate_limits.consume(rate_limits.RateLimit(subject=subject, most=most, window=conf.client_limit_window()), more)
                except Throttled as refusal:
                    log.warning("client_limited", what=what, per=per, key=self._subjects["key"], seconds=refusal.seconds)
                    raise
                self._counted[subject] = amount

    @contextmanager
    def returned_on_failure(self) -> Iterator["ClientLimits"]:
        """Return what was counted if the call is not done after all: a refused call keeps nothing from others."""
        try:
            yield self
        except BaseException:
            self.count(guests=0, starts=0, pieces=0)
            raise


def over_checkout_limit(lines: Iterable[BasketLine], contents: BasketSnapshot, *, by_client_key: bool) -> dict[str, int]:
    """Tell how many pieces are more than one checkout of this basket may hold, by product; the first lines come first.

    A guest whom a client key made a moment ago holds few pieces in all: a script makes guests faster than a viewer buys.

    :param lines: the lines of limited products.
    """
    of_one = conf.pieces_per_checkout() or math.inf
    new = by_client_key and contents.guest and contents.at < contents.created_at + conf.new_guest_age()
    left: float = (conf.new_guest_pieces() if new else 0) or math.inf
    beyond = {}
    for line in lines:
        room = min(of_one, left)
        if line.count > room:
            beyond[line.product_id] = line.count - int(room)
        else:
            left -= line.count
    return beyond


def check_start_rate(contents: BasketSnapshot) -> None:
    """Refuse a checkout to whoever has started as many within the hour as may be. Needs the basket's lock.

    :raises Throttled: there were too many.
    """
    limit = conf.starts_per_hour()
    if limit and (row := execute(LIMITING_START, [contents.basket_id, contents.at - HOUR, limit - 1]).fetchone()):
        raise Throttled(seconds=max(1, math.ceil((row[0] + HOUR - contents.at).total_seconds())))


def over_partner_share(*, partner_id: int, reserved: Mapping[str, int], at: datetime) -> dict[str, Shortage]:
    """Tell which of the pieces just reserved bring a partner beyond its share of a product. Needs the locks of the stock rows.

    The share is one of all unsold pieces, rounded up, so that the last piece can be had. Pieces that the partner's client
    keys have sold within the hour count as unsold and as held.

    :param reserved: pieces by product, each held by a reservation of this transaction.
    """
    percent = conf.partner_share_percent()
    if not percent or not reserved:
        return {}
    beyond = {}
    parameters = {"partner": partner_id, "at": at, "since": at - HOUR, "products": list(reserved)}
    for product_id, unsold, held, sold in execute(PARTNER_SHARES, parameters):
        free = math.ceil((unsold + sold) * percent / 100) - (held + sold - reserved[product_id])
        if free < reserved[product_id]:
            beyond[product_id] = Shortage(product_id=product_id, wanted=reserved[product_id], available=max(free, 0))
    return beyond
