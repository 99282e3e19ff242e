"""The invariants of the stored data at every commit, as SQL that finds violations. Nothing here repairs.

Each invariant belongs to a rule of `baskets/docs/rules.md`. The order of locks (rule 6) and the absence of outside calls in
transactions (rule 7) leave no trace in the data; tests check them.
"""

from baskets.domain.maintenance.invariants import baskets, checkouts, feed, schema, stock, timeline
from baskets.domain.maintenance.invariants.invariant import Invariant

INVARIANTS: tuple[Invariant, ...] = (
    *stock.INVARIANTS,
    *checkouts.INVARIANTS,
    *baskets.INVARIANTS,
    *timeline.INVARIANTS,
    *feed.INVARIANTS,
    *schema.INVARIANTS,
)

__all__ = ["INVARIANTS", "Invariant"]
