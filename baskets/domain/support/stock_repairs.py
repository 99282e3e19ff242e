"""Repairs of the stock of a product by staff: report the unsold pieces, or record pieces added or removed. Holds are not changed.

A stock take reports the unsold pieces of many products at once.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Max

from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.stock import supply
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.validation import require_reason
from baskets.domain.wording import sentence
from baskets.models import DeskEntry, Product, Stock, StockAdjustment

# Buyers wait for the stock rows of a stock take while it is applied.
MAX_COUNTED_PRODUCTS = 1000
MAX_NAMED = 10


@transaction.atomic(savepoint=False)
def set_unsold(*, product_id: str, unsold: int | None, as_of: datetime | None, expected_adjustment: int, reason: str, actor: Actor) -> None:
    """Report how many pieces of a product were unsold at a time, including held pieces. Holds stay.

    Records an adjustment even if no number changes: the timeline of a product shows who counted. Locks the stock row.

    :param unsold: in pieces; None makes the product unlimited.
    :param as_of: the time of the count; pieces that were sold since are subtracted. None is now.
    :param expected_adjustment: the last adjustment that staff have seen; 0 for none.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the supply was adjusted since. Holds and sales do not count: the report allows for them.
    :raises RepairNotApplicable: a report of a later time exists.
    :raises FutureMoment: `as_of` is in the future.
    :raises SalesPurged: sales after `as_of` were purged.
    """
    require_reason(reason)
    supply.lock_supply([product_id])
    _refuse_other_adjustments(product_id, expected=expected_adjustment)
    applied = supply.set_unsold(reports={product_id: unsold}, as_of=as_of, reason=reason, actor=actor, record_unchanged=True)
    if applied.older:
        raise RepairNotApplicable(sentence("A report of a later time exists. Count again."))
    _record("set_unsold", product_id, {"unsold": unsold, "as_of": as_of and as_of.isoformat(timespec="seconds")}, reason, actor)


@transaction.atomic(savepoint=False)
def take_stock(*, counts: Mapping[str, int], as_of: datetime, expected_adjustments: Mapping[str, int], reason: str, actor: Actor) -> None:
    """Report how many pieces of many products were unsold at one time, including held pieces: of all of them or of none. Holds stay.

    Records an adjustment of each product, even if no number changes: its timeline shows who counted. A product that was unlimited
    becomes limited. Locks the stock rows by primary key. Source: `baskets/docs/adr/0033-what-a-stock-report-means.md`.

    :param counts: the pieces by product id, of at most `MAX_COUNTED_PRODUCTS` products.
    :param as_of: the time of the count; pieces that were sold since are subtracted.
    :param expected_adjustments: by product id, the last adjustment that staff have seen; 0 for none.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the supply of a product was adjusted since. Holds and sales do not count: the report allows for them.
    :raises RepairNotApplicable: there are none or too many counts, a product does not exist, or a report of a later time exists.
    :raises FutureMoment: `as_of` is in the future.
    :raises SalesPurged: sales after `as_of` were purged.
    """
    require_reason(reason)
    if not 0 < len(counts) <= MAX_COUNTED_PRODUCTS:
        raise RepairNotApplicable(sentence("A stock take has 1 to %(number)s products.", number=MAX_COUNTED_PRODUCTS))
    known = set(Product.objects.filter(pk__in=counts).values_list("pk", flat=True))
    if unknown := [product_id for product_id in counts if product_id not in known]:
        raise RepairNotApplicable(sentence("These products do not exist: %(products)s.", products=_name_some(unknown)))
    supply.lock_supply(counts)
    last = last_adjustments(counts)
    if moved := [product_id for product_id in counts if last.get(product_id, 0) > expected_adjustments.get(product_id, 0)]:
        raise StaleState(since=list(StockAdjustment.objects.filter(pk__in=[last[product_id] for product_id in moved]).order_by("pk")))
    applied = supply.set_unsold(reports=counts, as_of=as_of, reason=reason, actor=actor, record_unchanged=True)
    if applied.older:
        raise RepairNotApplicable(
            sentence("Reports of a later time exist of these products: %(products)s. Count them again.", products=_name_some(applied.older))
        )
    _record("take_stock", "", {"counts": dict(counts), "as_of": as_of.isoformat(timespec="seconds")}, reason, actor)


@transaction.atomic(savepoint=False)
def adjust_supply(*, product_id: str, pieces: int, expected_adjustment: int, reason: str, actor: Actor) -> None:
    """Record pieces of a product that were added or removed.

    Locks the stock row.

    :param pieces: the number of pieces; negative for removed pieces.
    :param expected_adjustment: the last adjustment that staff have seen; 0 for none.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the supply was adjusted since.
    :raises RepairNotApplicable: `pieces` is 0, or the product is unlimited.
    :raises SupplyBelowZero: more pieces would be removed than were ever supplied.
    """
    require_reason(reason)
    if not pieces:
        raise RepairNotApplicable(sentence("No piece was added or removed: there is nothing to record."))
    row = Stock.objects.filter(pk=product_id).locked().first()
    if row is None or not row.limited:
        raise RepairNotApplicable(sentence("The product is unlimited. Set its unsold pieces first."))
    _refuse_other_adjustments(product_id, expected=expected_adjustment)
    supply.adjust_supply(deltas={product_id: pieces}, reason=reason, actor=actor)
    _record("adjust_supply", product_id, {"pieces": pieces}, reason, actor)


def last_adjustment(product_id: str) -> int:
    """Read the last adjustment of a product, which is the version of its stock.

    :returns: the primary key of the adjustment; 0 for none.
    """
    return last_adjustments([product_id]).get(product_id, 0)


def last_adjustments(product_ids: Iterable[str]) -> dict[str, int]:
    """Read the last adjustment of each product, by product id; a product without one is missing."""
    rows = StockAdjustment.objects.filter(product_id__in=list(product_ids)).order_by().values_list("product_id")
    return dict(rows.annotate(Max("pk")))


def _name_some(product_ids: Iterable[str]) -> str:
    """List the first products, and how many more there are."""
    named = list(product_ids)
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return ", ".join(named[:MAX_NAMED]) + more


def _record(repair: str, product_id: str, data: Mapping[str, Any], reason: str, actor: Actor) -> None:
    details = {"repair": repair, **data}
    audit_log.record(kind=DeskEntry.Kind.REPAIRED, about="product", subject=product_id, reason=reason, data=details, actor=actor)


def _refuse_other_adjustments(product_id: str, *, expected: int) -> None:
    """Refuse if the supply was adjusted after the expected adjustment. The caller holds the lock of the stock row.

    :raises StaleState: the supply was adjusted.
    """
    newer = list(StockAdjustment.objects.filter(product_id=product_id, pk__gt=expected).order_by("pk"))
    if newer:
        raise StaleState(since=newer)
