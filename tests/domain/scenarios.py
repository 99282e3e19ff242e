"""Short words for the tests of the domain: a user who calls, and time that passes without a clock being touched."""

from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from baskets.domain import runner
from baskets.domain.baskets import items, lifecycle
from baskets.domain.checkout import sessions as checkout_sessions
from baskets.domain.checkout.direct_orders import order_directly
from baskets.domain.checkout.direct_starts import may_start_directly, start_directly
from baskets.domain.checkout.order_numbers import generate_order_no
from baskets.domain.errors import CheckoutAborted
from baskets.models import CheckoutSession, Stock, StockReservation
from baskets.models.basket_snapshot import BasketSnapshot, Owner, ShownBasket, read_basket
from tests.conftest import APP
from tests.time_travel import age_basket


@dataclass(frozen=True)
class User:
    """One user's app, calling the domain as the API does."""

    owner: Owner

    def place(self, product_id: str, count: int = 1) -> BasketSnapshot:
        """POST a product."""
        return runner.run(items.place_item, owner=self.owner, product_id=product_id, count=count, actor=APP)

    def change(self, product_id: str, count: int | None) -> BasketSnapshot:
        """PATCH a product."""
        return runner.run(items.change_item, owner=self.owner, product_id=product_id, count=count, actor=APP)

    def remove(self, product_id: str) -> BasketSnapshot:
        """DELETE a product."""
        return runner.run(items.remove_item, owner=self.owner, product_id=product_id, actor=APP)

    def start(self, **options: Any) -> Any:
        """Start a checkout: directly, if nothing needs a decision. Its result has the stored session in place of the new one."""
        given: dict[str, Any] = {"owner": self.owner, "actor": APP, "order_no": generate_order_no()} | options
        start: Any = partial(checkout_sessions.start_session, **given)
        if may_start_directly(test_mode=given.pop("test_mode", False), by_client_key=given.pop("limits", None) is not None):
            started = runner.run_with_shortcut(partial(start_directly, **given), start, guard=None)
        else:
            started = runner.run(start)
        stored: Any = CheckoutSession.objects.get(pk=started.session.id)
        return replace(started, session=stored)

    def finish(self, ordered: bool, order_no: str | None = None) -> ShownBasket:
        """Finish the checkout: an order directly, if nothing needs a decision."""
        named: dict[str, Any] = {"owner": self.owner, "order_no": order_no, "actor": APP}
        finish = partial(checkout_sessions.finish_session, ordered=ordered, **named)
        if not ordered:
            return runner.run(finish)
        return runner.run_with_shortcut(partial(order_directly, **named), finish, guard=None)

    def pay_after_abort(self) -> None:
        """Abort the checkout, then report it as ordered without its number: refused, and flagged for staff."""
        self.finish(False)
        with pytest.raises(CheckoutAborted):
            self.finish(True)

    def delete(self) -> BasketSnapshot:
        """DELETE the basket."""
        return runner.run(lifecycle.delete_basket, owner=self.owner, actor=APP)

    def basket(self) -> BasketSnapshot | None:
        """GET the basket, or None where the user sees none."""
        snapshot = read_basket(self.owner.basket_id)
        return snapshot if snapshot and snapshot.is_open else None

    def lists(self) -> dict[str, Any]:
        """The lists as pairs, checkout with what is stocked."""
        snapshot = read_basket(self.owner.basket_id)
        assert snapshot is not None
        return {
            "cart": [(line.product_id, line.count) for line in snapshot.cart],
            "saved": [(line.product_id, line.count) for line in snapshot.saved],
            "checkout": [(line.product_id, line.count, line.stocked) for line in snapshot.checkout],
        }

    def wait(self, **delta: float) -> None:
        """Let time pass for this basket alone."""
        age_basket(self.owner.basket_id, timedelta(**delta))

    def beside(self, user_id: str) -> "User":
        """Another user of the same partner."""
        return User(replace(self.owner, user_id=user_id))


def available(product_id: str) -> tuple[int, int]:
    """The counters of a product: available and shortfall."""
    row = Stock.objects.get(pk=product_id)
    return row.available, row.shortfall


def reservations(order_no: str) -> list[tuple[str, str, int]]:
    """The reservations of a session: product, status, pieces."""
    rows = StockReservation.objects.filter(session__order_no=order_no).order_by("product_id", "pk")
    return list(rows.values_list("product_id", "status", "pieces"))
