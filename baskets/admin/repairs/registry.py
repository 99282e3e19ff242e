"""The repairs there are: what each is called, what it says of itself, when it fits, and the domain call it makes."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.contrib.admin.utils import quote
from django.urls import reverse

from baskets.admin.repairs import snapshots
from baskets.admin.repairs.forms import DaysForm, ItemForm, LateForm, SupplyForm, UnsoldForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.admin.repairs.views import Kind, Repair
from baskets.domain.support import (
    attention_repairs,
    audit_log,
    basket_repairs,
    checkout_repairs,
    device_repairs,
    erasure,
    reservation_repairs,
    stock_repairs,
)
from baskets.models import Basket, CheckoutSession, StockReservation


def _basket_state(basket_id: UUID) -> int:
    return Basket.objects.values_list("events", flat=True).get(pk=basket_id)


def _basket_page(basket_id: UUID) -> str:
    return reverse("admin:baskets_basket_change", args=[basket_id])


STATUS = CheckoutSession.Status


def _take(of: Callable[[Any], Any], *, fits: Callable[[Any], bool], look: Callable[[Any], Snapshot]) -> list[Repair]:
    """Take in hand and hand back, for what has a session; `holder` is the name of whoever has it."""
    return [
        Repair(
            slug="take",
            title="Take in hand",
            sentence="The others see that you are at it. Nothing else changes.",
            fits=lambda record: fits(record) and not getattr(record, "holder", ""),
            do=lambda record, _, *, seen, **said: attention_repairs.assign(session=of(record), expected_events=seen, **said),
            bulk=True,
            look=look,
        ),
        Repair(
            slug="hand-back",
            title="Hand back",
            sentence="Nobody is at it any more, so that somebody else takes it. Nothing else changes.",
            fits=lambda record: fits(record) and bool(getattr(record, "holder", "")),
            do=lambda record, _, *, seen, **said: attention_repairs.unassign(session=of(record), expected_events=seen, **said),
            bulk=True,
            look=look,
        ),
    ]


def _holder(about: str, record: Any) -> str:
    known: str | None = getattr(record, "holder", None)
    return audit_log.assignees(about, [record.pk]).get(record.pk, "") if known is None else known


def _take_subject(about: str, fits: Callable[[Any], bool]) -> list[Repair]:
    """Take in hand and hand back, for what has no basket: the journal of the desk tells it."""
    common: dict[str, Any] = {
        "state": lambda record: audit_log.last_step(about, record.pk),
        "look": lambda record: snapshots.of_subject(about, record.pk),
    }
    return [
        Repair(
            slug="take",
            title="Take in hand",
            sentence="The others see that you are at it. Nothing else changes.",
            fits=lambda record: fits(record) and not _holder(about, record),
            do=lambda record, _, *, seen, **said: audit_log.assign(about=about, subject=record.pk, expected_step=seen, **said),
            **common,
        ),
        Repair(
            slug="hand-back",
            title="Hand back",
            sentence="Nobody is at it any more, so that somebody else takes it. Nothing else changes.",
            fits=lambda record: fits(record) and bool(_holder(about, record)),
            do=lambda record, _, *, seen, **said: audit_log.unassign(about=about, subject=record.pk, expected_step=seen, **said),
            **common,
        ),
    ]


SESSIONS = Kind(
    state=lambda session: _basket_state(session.basket_id),
    look=snapshots.of_session,
    back=lambda session: _basket_page(session.basket_id),
    repairs=[
        Repair(
            slug="finish-as-ordered",
            title="Finish as ordered",
            sentence="The checkout becomes an order, as if the partner had reported it: what it holds is sold.",
            fits=lambda session: session.status == STATUS.ACTIVE,
            do=lambda session, _, *, seen, **more: checkout_repairs.finish_as_ordered(session=session, expected_events=seen, **more),
        ),
        Repair(
            slug="abort",
            title="Abort the checkout",
            sentence="The checkout ends without an order: what it holds is released, and every item returns to the cart.",
            fits=lambda session: session.status == STATUS.ACTIVE,
            bulk=True,
            do=lambda session, _, *, seen, **more: checkout_repairs.abort(session=session, expected_events=seen, **more),
        ),
        Repair(
            slug="hold-again",
            title="Hold again what failed",
            sentence=(
                "What could not be held at the start is held now, if its stock is there, until the end of this checkout's hold."
                " What staff released stays released."
            ),
            fits=lambda session: session.status == STATUS.ACTIVE and getattr(session, "has_failed", True),
            promises=("Checkout", "Reservations"),
            do=lambda session, _, *, seen, **more: reservation_repairs.hold_again(session=session, expected_events=seen, **more),
        ),
        Repair(
            slug="order-late",
            title="Order late",
            sentence=(
                "The checkout that was aborted or has expired becomes an order after all, whatever the grace period:"
                " its stock is taken again, and what had come back leaves the cart."
            ),
            fits=lambda session: session.status in (STATUS.ABORTED, STATUS.EXPIRED),
            form=LateForm,
            promises=("Cart", "Reservations"),
            do=lambda session, said, *, seen, **more: checkout_repairs.order_late(session=session, expected_events=seen, **said, **more),
        ),
        Repair(
            slug="reverse-order",
            title="Reverse the order",
            sentence=(
                "The goods came back: the sold pieces return as a new supply, once and for good."
                " The order stays an order, marked as reversed; an open matter about its missing pieces is settled."
            ),
            fits=lambda session: session.status == STATUS.ORDERED and session.reversed_at is None,
            bulk=True,
            do=lambda session, _, *, seen, **more: checkout_repairs.reverse_order(session=session, expected_events=seen, **more),
        ),
        *_take(lambda session: session, fits=lambda session: hasattr(session, "lapsed"), look=snapshots.of_taking),
    ],
)
RESERVATIONS = Kind(
    state=lambda hold: _basket_state(hold.basket_id),
    look=lambda hold: snapshots.of_session(hold.session),
    back=lambda hold: _basket_page(hold.basket_id),
    repairs=[
        Repair(
            slug="release",
            title="Release this hold",
            sentence=(
                "The pieces are free for others at once. The checkout goes on without this item, which returns to the cart"
                " when the checkout ends."
            ),
            fits=lambda hold: hold.status == StockReservation.Status.HELD,
            do=lambda hold, _, *, seen, **more: reservation_repairs.release(reservation=hold, expected_events=seen, **more),
        )
    ],
)
MATTERS = Kind(
    state=lambda matter: _basket_state(matter.basket_id),
    look=snapshots.of_matter,
    back=lambda matter: _basket_page(matter.basket_id),
    repairs=[
        Repair(
            slug="settle",
            title="Settle this matter",
            sentence="Somebody has seen to it, and the reason says how: refunded, delivered, or agreed with the customer.",
            fits=lambda matter: matter.settled_at is None,
            do=lambda matter, _, *, seen, **more: attention_repairs.resolve(attention=matter, expected_events=seen, **more),
            bulk=True,
        ),
        *_take(
            lambda matter: matter.session,
            fits=lambda matter: matter.settled_at is None,
            look=lambda matter: snapshots.of_taking(matter.session),
        ),
    ],
)
BASKETS = Kind(
    state=lambda basket: _basket_state(basket.pk),
    look=lambda basket: snapshots.of_basket(basket.pk),
    back=lambda basket: _basket_page(basket.pk),
    repairs=[
        Repair(
            slug="change-item",
            title="Change an item",
            sentence="An item in the cart or the saved list gets another count, moves to the other list, or is removed.",
            fits=lambda basket: basket.hidden_at is None,
            form=ItemForm,
            do=lambda basket, said, *, seen, **more: basket_repairs.change_item(
                basket=basket,
                product_id=said["product"],
                count={"cart": said["count"], "saved": 0, "out": -1}[said["to"]],
                expected_events=seen,
                **more,
            ),
        ),
        Repair(
            slug="extend",
            title="Let it last longer",
            sentence="The basket expires later. Its lists do not change.",
            fits=lambda basket: basket.hidden_at is None,
            form=DaysForm,
            bulk=True,
            do=lambda basket, said, *, seen, **more: basket_repairs.extend(basket=basket, expected_events=seen, **said, **more),
        ),
        Repair(
            slug="end",
            title="End the basket",
            sentence="The basket is emptied and hidden, as if its user had deleted it. Orders and the timeline stay.",
            fits=lambda basket: basket.hidden_at is None,
            bulk=True,
            do=lambda basket, _, *, seen, **more: basket_repairs.end(basket=basket, expected_events=seen, **more),
        ),
        Repair(
            slug="settle",
            title="Settle all its matters",
            sentence="All open matters of this basket are settled, and the reason says how. They stay on record.",
            fits=lambda basket: basket.flagged if hasattr(basket, "flagged") else basket.attention.open().exists(),
            look=snapshots.of_flags,
            do=lambda basket, _, *, seen, **more: attention_repairs.resolve_all(basket=basket, expected_events=seen, **more),
        ),
        Repair(
            slug="erase",
            title="Erase the user's data",
            sentence=(
                "For good: a random name takes the place of the user id, and tracking, remembered answers, comfort settings"
                " and the lists go. Orders, stock and the timeline stay, and nobody can find them by the user any more."
            ),
            fits=lambda _: True,
            look=snapshots.of_user,
            do=lambda basket, _, *, seen, **more: erasure.erase_user(basket=basket, expected_events=seen, **more),
        ),
    ],
)
DEVICES = Kind(
    state=lambda device: _basket_state(device.basket_id),
    look=snapshots.of_device,
    back=lambda device: _basket_page(device.basket_id),
    repairs=[
        Repair(
            slug="revoke-device",
            title="Shut this device out",
            sentence="The token of the device is refused from its next call on. Other devices keep the basket.",
            fits=lambda device: device.revoked_at is None,
            do=lambda device, _, *, seen, **more: device_repairs.revoke_device(device=device, expected_events=seen, **more),
        )
    ],
)
PRODUCTS = Kind(
    state=lambda product: stock_repairs.last_adjustment(product.pk),
    look=snapshots.of_product,
    back=lambda product: reverse("admin:baskets_product_change", args=[quote(product.pk)]),
    repairs=[
        Repair(
            slug="set-unsold",
            title="Set the unsold pieces",
            sentence=(
                "What is held stays held: available is this number less what is held and what was sold after the count. What is"
                " missing is shortfall. Customers may go on buying: the supply changes by the same number of pieces."
            ),
            fits=lambda _: True,
            form=UnsoldForm,
            do=lambda product, said, *, seen, **more: stock_repairs.set_unsold(
                product_id=product.pk, expected_adjustment=seen, unsold=said["unsold"], as_of=said["as_of"], **more
            ),
        ),
        Repair(
            slug="adjust-supply",
            title="Record pieces added or removed",
            sentence="Pieces came in or were taken out. What comes in pays off a shortfall first.",
            fits=lambda product: bool(getattr(product, "stock", None) and product.stock.limited),
            form=SupplyForm,
            do=lambda product, said, *, seen, **more: stock_repairs.adjust_supply(
                product_id=product.pk, expected_adjustment=seen, **said, **more
            ),
        ),
        *_take_subject("product", lambda product: bool(getattr(product, "stock", None) and product.stock.shortfall)),
    ],
)
RULES = Kind(
    state=lambda rule: audit_log.last_step("brokenrule", rule.pk),
    look=snapshots.of_rule,
    back=lambda rule: reverse("admin:baskets_brokenrule_change", args=[quote(rule.pk)]),
    repairs=[
        Repair(
            slug="settle-rule",
            title="Settle this finding",
            sentence="Somebody has seen to it, and the reason says how. A check that finds the rule broken again opens it again.",
            fits=lambda rule: rule.settled_at is None and rule.gone_at is None,
            do=lambda rule, _, *, seen, **more: audit_log.resolve_rule(rule=rule, expected_step=seen, **more),
        ),
        *_take_subject("brokenrule", lambda rule: rule.settled_at is None and rule.gone_at is None),
    ],
)
