"""The calls that may meet at one basket: of apps, of partners, of staff, and of the clock. Each is run as its edge runs it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from baskets.db.transactions import run_in_transaction
from baskets.domain import errors, runner
from baskets.domain.access import guest_tokens
from baskets.domain.baskets import guests, transfers
from baskets.domain.checkout import expiry
from baskets.domain.checkout.session_rows import StartedSession
from baskets.domain.comfort import ComfortField, change_comfort
from baskets.domain.stock import supply
from baskets.domain.support import attention_repairs, basket_repairs, checkout_repairs, erasure, reservation_repairs, stock_repairs
from baskets.models import Attention, Basket, StockReservation
from baskets.models.basket_snapshot import BasketSnapshot, WrittenBasket
from tests.concurrency.scenarios import STAFF, Scenario, lists_of, purge_all
from tests.conftest import APP
from tests.factories import TESTER

Operation = Callable[[Scenario], Any]


# --- Apps and partners --------------------------------------------------------------


def _start_of_other_shopper(scenario: Scenario) -> Any:
    """Start a checkout of another user, who needs the pieces and reclaims lapsed ones."""
    other_shopper = scenario.shopper.beside("ben")
    other_shopper.place("shirt", 4)
    return other_shopper.start()


def _guest(scenario: Scenario) -> Any:
    partner_id = scenario.shopper.owner.partner_id

    def create() -> BasketSnapshot:
        owner = guests.new_guest(partner_id=partner_id)
        snapshot = guests.create_guest_basket(owner=owner, counts={"shirt": 1}, actor=APP)
        guest_tokens.issue_guest_token(owner=owner, at=snapshot.at)
        return snapshot

    return runner.run(create)


def _take_over(scenario: Scenario) -> Any:
    partner_id = scenario.shopper.owner.partner_id

    def take() -> BasketSnapshot:
        taken = transfers.redeem_transfer(partner_id=partner_id, token=scenario.token, actor=APP)
        guest_tokens.issue_guest_token(owner=taken.owner, transferred=True, at=taken.snapshot.at)
        return taken.snapshot

    return runner.run(take)


def _comfort(values: Mapping[ComfortField, str | None], *, consent: bool | None) -> Operation:
    return lambda scenario: runner.run(change_comfort, owner=scenario.shopper.owner, values=values, consent=consent)


# --- The shop and the clock -----------------------------------------------------------


def _report(scenario: Scenario) -> Any:
    return run_in_transaction(lambda: supply.set_unsold(reports={"shirt": 2, "cap": 9}, as_of=None, reason="feed", actor=TESTER))


def _sweep(scenario: Scenario) -> None:
    """Ignore how many it found: a sweep skips locked baskets."""
    expiry.sweep_sessions()


# --- Staff --------------------------------------------------------------------------


def _repair_arguments(scenario: Scenario, more: Mapping[str, Any]) -> dict[str, Any]:
    return {"expected_events": scenario.seen.events, "reason": "ticket", "actor": STAFF} | dict(more)


def _of_session(operation: Callable[..., Any], **more: Any) -> Operation:
    return lambda scenario: runner.run(lambda: operation(session=scenario.session, **_repair_arguments(scenario, more)))


def _of_basket(operation: Callable[..., Any], **more: Any) -> Operation:
    """On a page that was opened before anything met."""
    return lambda scenario: runner.run(lambda: operation(basket=scenario.seen, **_repair_arguments(scenario, more)))


def _order_late(name: str) -> Operation:
    return lambda scenario: runner.run(
        lambda: checkout_repairs.order_late(session=getattr(scenario, name), accept_short=False, **_repair_arguments(scenario, {}))
    )


def _release(scenario: Scenario) -> Any:
    hold = StockReservation.objects.filter(session_id=scenario.session.pk, product_id="shirt").first()
    if hold is None:
        return "was purged before the page was opened"
    return runner.run(lambda: reservation_repairs.release(reservation=hold, **_repair_arguments(scenario, {})))


def _hold_again(scenario: Scenario) -> Any:
    return runner.run(lambda: reservation_repairs.hold_again(session=scenario.session, **_repair_arguments(scenario, {})))


def _settle(scenario: Scenario) -> Any:
    flag = Attention.objects.filter(session_id=scenario.session.pk).first()
    return (
        "nothing to settle"
        if flag is None
        else runner.run(lambda: attention_repairs.resolve(attention=flag, **_repair_arguments(scenario, {})))
    )


def _of_stock(operation: Callable[..., Any], **more: Any) -> Operation:
    values = {"product_id": "shirt", "reason": "counted", "actor": STAFF} | more
    return lambda scenario: runner.run(operation, expected_adjustment=scenario.adjusted, **values)


OPERATIONS: dict[str, Operation] = {
    "order": lambda scenario: scenario.shopper.finish(ordered=True),
    "abort": lambda scenario: scenario.shopper.finish(ordered=False),
    "order by number": lambda scenario: scenario.shopper.finish(ordered=True, order_no=scenario.session.order_no),
    "order the old": lambda scenario: scenario.shopper.finish(ordered=True, order_no=scenario.old.order_no),
    "start": lambda scenario: scenario.shopper.start(),
    "place": lambda scenario: scenario.shopper.place("shirt", 2),
    "remove": lambda scenario: scenario.shopper.remove("cap"),
    "delete": lambda scenario: scenario.shopper.delete(),
    "another buyer": _start_of_other_shopper,
    "guest": _guest,
    "offer": lambda scenario: runner.run(transfers.offer_transfer, owner=scenario.shopper.owner, actor=APP),
    "take over": _take_over,
    "consent": _comfort({"customer_id": "c-2"}, consent=True),
    "comfort": _comfort({"customer_id": "c-3"}, consent=None),
    "no consent": _comfort({}, consent=False),
    "sweep": _sweep,
    "expire": lambda scenario: expiry.expire_session(basket_id=scenario.shopper.owner.basket_id),
    "feed": _report,
    "purge": lambda _: purge_all(),
    "staff aborts": _of_session(checkout_repairs.abort),
    "staff orders": _of_session(checkout_repairs.finish_as_ordered),
    "staff orders late": _order_late("session"),
    "staff orders the old": _order_late("old"),
    "staff reverses": _of_session(checkout_repairs.reverse_order),
    "staff releases": _release,
    "staff holds again": _hold_again,
    "staff extends the hold": _of_session(reservation_repairs.extend_hold, minutes=15),
    "staff settles": _settle,
    "staff takes": _of_session(attention_repairs.assign),
    "staff hands back": _of_session(attention_repairs.unassign),
    "staff changes": _of_basket(basket_repairs.change_item, product_id="cap", count=4),
    "staff adds an item": _of_basket(basket_repairs.add_item, product_id="cap", count=2),
    "staff adds a note": _of_basket(basket_repairs.add_note),
    "staff restores": _of_basket(basket_repairs.restore),
    "staff extends": _of_basket(basket_repairs.extend, days=60),
    "staff ends": _of_basket(basket_repairs.end),
    "staff erases": _of_basket(erasure.erase_user),
    "staff counts": _of_stock(stock_repairs.set_unsold, unsold=7, as_of=None),
    "staff adds": _of_stock(stock_repairs.adjust_supply, pieces=2),
}

# These expire sessions in a separate transaction, and another call may run in between: sessions of the shopper,
# or of the third shopper.
EXPIRE_SHOPPER = {"start", "delete", "another buyer", "staff ends", "staff erases"}
EXPIRE_THIRD_SHOPPER = {"another buyer", "staff holds again", "order", "order by number", "staff orders late", "staff orders the old"}


@dataclass(frozen=True)
class Defect:
    """An error that is not a refusal: a bug, whether the call ran alone or beside another."""

    summary: str


def summarize_outcome(outcome: Any) -> Any:
    """What a call says, without what differs from run to run."""
    match outcome:
        case StartedSession(snapshot=snapshot):
            return "started", *lists_of(snapshot)
        case BasketSnapshot() | WrittenBasket():
            return lists_of(outcome)
        case transfers.TransferOffer():
            return "offered"
        case Basket():
            return "erased"
        case Exception():
            return _summarize_error(outcome)
    return outcome


def _summarize_error(error: Exception) -> Any:
    match error:
        case errors.OutOfStock(shortages=shortages):
            return error.reason, sorted((item.product_id, item.wanted, item.available) for item in shortages)
        case errors.Refusal():
            return error.reason, str(error)
        case transfers.TransferNotFound():
            return "transfer_unknown"
    return Defect(f"{type(error).__name__}: {error}")
