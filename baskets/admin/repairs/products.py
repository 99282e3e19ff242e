"""The repairs of the stock of a product."""

from django.utils.translation import gettext_lazy as _

from baskets.admin.repairs import snapshots
from baskets.admin.repairs.assignment import Assign, SubjectAssignment, Unassign
from baskets.admin.repairs.definitions import KnownFacts, Repair, RepairCall
from baskets.admin.repairs.snapshots import Snapshot, stock_of
from baskets.admin.repairs.stock_forms import SupplyForm, UnsoldForm
from baskets.domain.support import stock_repairs
from baskets.models import Product


class ProductRepair(Repair[Product]):
    """A repair of the stock of a product."""

    def snapshot(self, record: Product) -> Snapshot:
        return snapshots.of_product(record)

    def version(self, record: Product) -> int:
        return stock_repairs.last_adjustment(record.pk)

    def version_scope(self, record: Product) -> object:
        return record.pk

    def label(self, record: Product) -> str:
        return record.pk


class SetUnsold(ProductRepair):
    """Reports how many pieces are unsold."""

    slug = "set-unsold"
    title = _("Set the unsold pieces")
    done = _("The unsold pieces were set.")
    description = _(
        "Holds stay: available is this number less the held pieces and the sales after the count; missing pieces are the"
        " shortfall. Customers may go on buying: the supply changes by the same number of pieces."
    )
    form_class = UnsoldForm

    def is_available(self, record: Product, known: KnownFacts) -> bool:
        return True

    def execute(self, record: Product, call: RepairCall) -> None:
        stock_repairs.set_unsold(
            product_id=record.pk,
            unsold=call.cleaned["unsold"],
            as_of=call.cleaned["as_of"],
            expected_adjustment=call.expected_version,
            reason=call.reason,
            actor=call.actor,
        )


class AdjustSupply(ProductRepair):
    """Records pieces added or removed."""

    slug = "adjust-supply"
    title = _("Record pieces added or removed")
    done = _("The pieces were recorded.")
    description = _("Pieces were added or removed. Added pieces reduce a shortfall first.")
    form_class = SupplyForm

    def is_available(self, record: Product, known: KnownFacts) -> bool:
        return (stock := stock_of(record)) is not None and stock.limited

    def execute(self, record: Product, call: RepairCall) -> None:
        stock_repairs.adjust_supply(
            product_id=record.pk,
            pieces=call.cleaned["pieces"],
            expected_adjustment=call.expected_version,
            reason=call.reason,
            actor=call.actor,
        )


class ShortfallAssignment(SubjectAssignment[Product]):
    """The assignment of a product with a shortfall."""

    about = "product"

    def is_assignable(self, record: Product, known: KnownFacts) -> bool:
        return (stock := stock_of(record)) is not None and stock.shortfall > 0


class AssignProduct(ShortfallAssignment, Assign[Product]):
    """Assigns a product with a shortfall to the user."""


class UnassignProduct(ShortfallAssignment, Unassign[Product]):
    """Ends the assignment of a product with a shortfall."""


PRODUCT_REPAIRS: tuple[Repair[Product], ...] = (SetUnsold(), AdjustSupply(), AssignProduct(), UnassignProduct())
