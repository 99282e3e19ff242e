"""What must be true of the stored data at every commit, as SQL that finds what breaks it. Nothing here repairs.

Each proof belongs to a rule of `baskets/docs/rules.md`. Rule 6 (the order of locks), and that nothing is called
within a transaction (rule 7), leave no trace in the data; the tests show them.
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
