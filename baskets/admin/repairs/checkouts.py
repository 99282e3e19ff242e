"""The repairs of checkouts, of their reservations, and of their attention flags."""

from uuid import UUID

from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.repairs import snapshots
from baskets.admin.repairs.assignment import Assign, SessionAssignment, Unassign
from baskets.admin.repairs.checkout_forms import LateOrderForm, MinutesForm
from baskets.admin.repairs.definitions import BasketScopedRepair, KnownFacts, Repair, RepairCall
from baskets.admin.repairs.forms import OrderReasonForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.domain.support import attention_repairs, checkout_repairs, reservation_repairs
from baskets.models import Attention, CheckoutItem, CheckoutSession, StockReservation

STATUS = CheckoutSession.Status


class SessionRepair(BasketScopedRepair[CheckoutSession]):
    """A repair of a checkout session."""

    def basket_id(self, record: CheckoutSession) -> UUID:
        return record.basket_id

    def snapshot(self, record: CheckoutSession) -> Snapshot:
        return snapshots.of_session(record)

    def label(self, record: CheckoutSession) -> str:
        return record.order_no

    def checkout(self, record: CheckoutSession) -> CheckoutSession:
        return record


class FinishAsOrdered(SessionRepair):
    """Orders an active checkout."""

    slug = "finish-as-ordered"
    title = _("Finish as ordered")
    done = _("The checkout is an order now.")
    description = _("The checkout becomes an order, as if the partner had reported it: the held pieces are sold.")
    form_class = OrderReasonForm
    is_bulk = True

    def is_available(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return record.status == STATUS.ACTIVE

    def execute(self, record: CheckoutSession, call: RepairCall) -> None:
        checkout_repairs.finish_as_ordered(session=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


class AbortCheckout(SessionRepair):
    """Aborts an active checkout."""

    slug = "abort"
    title = _("Abort the checkout")
    done = _("The checkout was aborted.")
    description = _("The checkout ends without an order: its holds are released, and every item returns to the cart.")
    is_bulk = True

    def is_available(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return record.status == STATUS.ACTIVE

    def execute(self, record: CheckoutSession, call: RepairCall) -> None:
        checkout_repairs.abort(session=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


class HoldAgain(SessionRepair):
    """Holds items that failed at the start of an active checkout."""

    slug = "hold-again"
    title = _("Hold again what failed")
    done = _("What had failed is held now.")
    description = _(
        "Items that could not be held at the start are held now, if they are in stock, until the hold of this checkout ends."
        " Items that staff released stay released."
    )
    confirmed_values = (_("Checkout"), _("Reservations"))

    def is_available(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return record.status == STATUS.ACTIVE and self._has_failed_items(record, known)

    def execute(self, record: CheckoutSession, call: RepairCall) -> None:
        reservation_repairs.hold_again(session=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)

    @staticmethod
    def _has_failed_items(record: CheckoutSession, known: KnownFacts) -> bool:
        if known.has_failed_items is not None:
            return known.has_failed_items
        return CheckoutItem.objects.filter(session_id=record.pk, stocked__lt=0, released_at__isnull=True).exists()


class ExtendHold(SessionRepair):
    """Extends the hold of an active checkout."""

    slug = "extend-hold"
    title = _("Extend the hold")
    done = _("The hold was extended.")
    description = _("The customer has more time to pay: the held pieces stay held. How long and how often is limited.")
    form_class = MinutesForm

    def is_available(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return record.status == STATUS.ACTIVE and conf.hold_extensions() > 0

    def execute(self, record: CheckoutSession, call: RepairCall) -> None:
        reservation_repairs.extend_hold(
            session=record, minutes=call.cleaned["minutes"], expected_events=call.expected_version, reason=call.reason, actor=call.actor
        )


class OrderLate(SessionRepair):
    """Orders a checkout that has ended without an order."""

    slug = "order-late"
    title = _("Order late")
    done = _("The checkout was ordered late.")
    description = _(
        "The aborted or expired checkout becomes an order after all, whatever the grace period: its stock is reserved again,"
        " and items that returned to the cart leave it."
    )
    form_class = LateOrderForm
    is_bulk = True
    confirmed_values = (_("Cart"), _("Reservations"))

    def is_available(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return record.status in (STATUS.ABORTED, STATUS.EXPIRED)

    def execute(self, record: CheckoutSession, call: RepairCall) -> None:
        checkout_repairs.order_late(
            session=record,
            accept_short=call.cleaned["accept_short"],
            expected_events=call.expected_version,
            reason=call.reason,
            actor=call.actor,
        )


class ReverseOrder(SessionRepair):
    """Reverses an order."""

    slug = "reverse-order"
    title = _("Reverse the order")
    done = _("The order was reversed.")
    description = _(
        "The goods came back: the sold pieces return as new supply, once and for good."
        " The order stays an order, marked as reversed; an open flag about its missing pieces is resolved."
    )
    form_class = OrderReasonForm
    is_bulk = True

    def is_available(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return record.status == STATUS.ORDERED and record.reversed_at is None

    def execute(self, record: CheckoutSession, call: RepairCall) -> None:
        checkout_repairs.reverse_order(session=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


class LapsedSessionAssignment(SessionAssignment[CheckoutSession]):
    """The assignment of a checkout that has lapsed."""

    def session(self, record: CheckoutSession) -> CheckoutSession:
        return record

    def basket_id(self, record: CheckoutSession) -> UUID:
        return record.basket_id

    def is_assignable(self, record: CheckoutSession, known: KnownFacts) -> bool:
        return known.is_lapsed


class AssignSession(LapsedSessionAssignment, Assign[CheckoutSession]):
    """Assigns a lapsed checkout to the user."""


class UnassignSession(LapsedSessionAssignment, Unassign[CheckoutSession]):
    """Ends the assignment of a lapsed checkout."""


class ReservationRepair(BasketScopedRepair[StockReservation]):
    """A repair of one reservation."""

    def basket_id(self, record: StockReservation) -> UUID:
        return record.basket_id

    def snapshot(self, record: StockReservation) -> Snapshot:
        return snapshots.of_session(record.session)

    def label(self, record: StockReservation) -> str:
        return record.session.order_no

    def checkout(self, record: StockReservation) -> CheckoutSession:
        return record.session


class ReleaseHold(ReservationRepair):
    """Releases one hold of an active checkout."""

    slug = "release"
    title = _("Release this hold")
    done = _("The hold was released.")
    description = _(
        "Other checkouts can hold the pieces at once. This checkout continues without the item, which returns to the cart"
        " when the checkout ends."
    )

    def is_available(self, record: StockReservation, known: KnownFacts) -> bool:
        return record.status == StockReservation.Status.HELD

    def execute(self, record: StockReservation, call: RepairCall) -> None:
        reservation_repairs.release(reservation=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


class AttentionFlagRepair(BasketScopedRepair[Attention]):
    """A repair of one attention flag."""

    def basket_id(self, record: Attention) -> UUID:
        return record.basket_id

    def snapshot(self, record: Attention) -> Snapshot:
        return snapshots.of_flag(record)

    def label(self, record: Attention) -> str:
        return record.session.order_no

    def checkout(self, record: Attention) -> CheckoutSession:
        return record.session


class ResolveFlag(AttentionFlagRepair):
    """Resolves an open flag."""

    slug = "settle"
    title = _("Resolve this flag")
    done = _("The flag is resolved.")
    description = _("The reason says how the case was closed: refunded, delivered, or agreed with the customer.")
    form_class = OrderReasonForm
    is_bulk = True

    def is_available(self, record: Attention, known: KnownFacts) -> bool:
        return record.settled_at is None

    def execute(self, record: Attention, call: RepairCall) -> None:
        attention_repairs.resolve(attention=record, expected_events=call.expected_version, reason=call.reason, actor=call.actor)


class FlagAssignment(SessionAssignment[Attention]):
    """The assignment of a checkout with an open flag."""

    def session(self, record: Attention) -> CheckoutSession:
        return record.session

    def basket_id(self, record: Attention) -> UUID:
        return record.basket_id

    def is_assignable(self, record: Attention, known: KnownFacts) -> bool:
        return record.settled_at is None


class AssignFlag(FlagAssignment, Assign[Attention]):
    """Assigns an open flag to the user."""


class UnassignFlag(FlagAssignment, Unassign[Attention]):
    """Ends the assignment of an open flag."""


SESSION_REPAIRS: tuple[Repair[CheckoutSession], ...] = (
    FinishAsOrdered(),
    AbortCheckout(),
    ExtendHold(),
    HoldAgain(),
    OrderLate(),
    ReverseOrder(),
    AssignSession(),
    UnassignSession(),
)
RESERVATION_REPAIRS: tuple[Repair[StockReservation], ...] = (ReleaseHold(),)
ATTENTION_REPAIRS: tuple[Repair[Attention], ...] = (ResolveFlag(), AssignFlag(), UnassignFlag())
