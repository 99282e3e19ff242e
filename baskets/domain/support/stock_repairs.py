"""Repairs of the stock of a product by staff: report the unsold pieces, or record pieces added or removed. Each locks the stock row."""

from datetime import datetime

from django.db import transaction

from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from baskets.domain.support.guards import RepairNotApplicable, StaleState, require_reason
from baskets.models import Stock, StockAdjustment


@transaction.atomic(savepoint=False)
def set_unsold(*, product_id: str, unsold: int | None, as_of: datetime | None, expected_adjustment: int, reason: str, actor: Actor) -> None:
    """Report how many pieces of a product were unsold at a moment, held ones included; what is held stays held.

    Recorded as an adjustment even where no number changes: the timeline of a product shows who counted. Locks the stock row.

    :param unsold: None makes the product unlimited.
    :param as_of: when they were counted; what was sold since is subtracted. None is now.
    :param expected_adjustment: the last adjustment when staff decided; 0 if there was none.
    :raises ReasonRequired: no reason is given.
    :raises StaleState: its supply was adjusted since. Holds and sales do not count: the report allows for them.
    :raises RepairNotApplicable: a report of a later moment is known.
    :raises FutureMoment: `as_of` is still to come.
    :raises SalesPurged: sales after that moment are not known any more.
    """
    require_reason(reason)
    supply.lock_supply([product_id])
    _refuse_other_adjustments(product_id, expected=expected_adjustment)
    applied = supply.set_unsold(reports={product_id: unsold}, as_of=as_of, reason=reason, actor=actor, record_unchanged=True)
    if applied.older:
        raise RepairNotApplicable("A report of a later moment is known. Count again.")


@transaction.atomic(savepoint=False)
def adjust_supply(*, product_id: str, pieces: int, expected_adjustment: int, reason: str, actor: Actor) -> None:
    """Record pieces of a product that came in, or were taken out.

    Locks the stock row. Other parameters and refusals as `set_unsold`.

    :param pieces: how many, below zero for those taken out.
    :raises RepairNotApplicable: it is none, or the product is unlimited.
    :raises SupplyBelowZero: more would be taken out than were ever supplied.
    """
    require_reason(reason)
    if not pieces:
        raise RepairNotApplicable("No piece came in and none was taken out: there is nothing to record.")
    row = Stock.objects.filter(pk=product_id).locked().first()
    if row is None or not row.limited:
        raise RepairNotApplicable("The product is unlimited. Set its unsold pieces first.")
    _refuse_other_adjustments(product_id, expected=expected_adjustment)
    supply.adjust_supply(deltas={product_id: pieces}, reason=reason, actor=actor)


def last_adjustment(product_id: str) -> int:
    """Name the last adjustment of a product, 0 if there is none: the state a repair of its stock is decided upon."""
    last = StockAdjustment.objects.filter(product_id=product_id).order_by("-pk").values_list("pk", flat=True).first()
    return last or 0


def _refuse_other_adjustments(product_id: str, *, expected: int) -> None:
    """Let no adjustment have come after the expected one. Needs the stock row's lock.

    :raises StaleState: one has.
    """
    newer = list(StockAdjustment.objects.filter(product_id=product_id, pk__gt=expected).order_by("pk"))
    if newer:
        raise StaleState(since=newer)
