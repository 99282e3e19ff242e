"""What staff do, as rules of the state machine: every repair, by its domain call, on the current state."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from baskets.domain import errors, runner
from baskets.domain.support import attention_repairs, basket_repairs, checkout_repairs, erasure, reservation_repairs, stock_repairs
from baskets.models import Attention, Basket, CheckoutSession, StockReservation
from tests.model_based.callers import as_refused
from tests.model_based.machine import KEYS, STAFF, ShopStateMachine, counts, items, products
from tests.model_based.staff_model import DAY
from tests.model_based.state import Key, Session


class StaffStateMachine(ShopStateMachine):
    """Repairs of checkouts, holds, matters, baskets and stock, and the erasure of a user."""

    # --- Checkouts --------------------------------------------------------------

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data(), what=st.sampled_from(["order", "abort", "late", "late short", "reverse"]))
    def repair_session(self, data: st.DataObject, what: str) -> None:
        key, modelled = self._some_session(data)
        values = {"session": CheckoutSession.objects.get(order_no=modelled.order_no), **self._repair_arguments(key)}
        accept = what == "late short"
        by_model, by_service = {
            "order": (lambda: self.model.staff_finish(modelled, key, ordered=True), lambda: checkout_repairs.finish_as_ordered(**values)),
            "abort": (lambda: self.model.staff_finish(modelled, key, ordered=False), lambda: checkout_repairs.abort(**values)),
            "reverse": (lambda: self.model.staff_reverse(modelled, key), lambda: checkout_repairs.reverse_order(**values)),
        }.get(
            what,
            (
                lambda: self.model.staff_order_late(modelled, key, accept=accept),
                lambda: checkout_repairs.order_late(**values, accept_short=accept),
            ),
        )
        self._repair(key, by_model, by_service)

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        key, modelled = self._some_active_session(data)
        product = data.draw(st.sampled_from([*sorted(+modelled.held), *sorted(modelled.items)]))
        of_it = StockReservation.objects.filter(session__order_no=modelled.order_no, product_id=product)
        if (hold := of_it.order_by("-pk").first()) is None:
            return  # Of what is unlimited, nothing is held.
        values = self._repair_arguments(key)
        self._repair(
            key, lambda: self.model.staff_release(modelled, key, product), lambda: reservation_repairs.release(reservation=hold, **values)
        )

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data(), found=st.booleans())
    def hold_again(self, data: st.DataObject, found: bool) -> None:
        """Often after a box with the missing pieces was found."""
        key, modelled = self._some_active_session(data)
        for product in [product for product, item in modelled.items.items() if item.failed and found]:
            self.adjust(product, modelled.items[product].count)
        values = {"session": CheckoutSession.objects.get(order_no=modelled.order_no), **self._repair_arguments(key)}
        self._repair(
            key,
            lambda: self.model.staff_hold_again(modelled, key),
            lambda: reservation_repairs.hold_again(**values),
        )

    def _some_active_session(self, data: st.DataObject) -> tuple[Key, Session]:
        """Or the latest, whatever it is."""
        active = [pair for pair in self.model.sessions if pair[1].status == "ACTIVE"]
        return data.draw(st.sampled_from([*active, self.model.sessions[-1]]))

    @precondition(lambda self: any(session.flags for _, session in self.model.sessions))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        flagged = [(key, session, reason) for key, session in self.model.sessions for reason in sorted(session.flags)]
        key, modelled, reason = data.draw(st.sampled_from(flagged))
        matter = Attention.objects.get(session__order_no=modelled.order_no, reason=reason)
        values = self._repair_arguments(key)
        self._repair(
            key, lambda: self.model.staff_settle(modelled, key, reason), lambda: attention_repairs.resolve(attention=matter, **values)
        )

    # --- Baskets and stock --------------------------------------------------------

    @precondition(lambda self: self.model.baskets)
    @rule(data=st.data(), what=st.sampled_from(["extend", "end", "settle"]), days=st.sampled_from([10, 60]))
    def repair_basket(self, data: st.DataObject, what: str, days: int) -> None:
        key = self._some_basket(data)
        modelled = self.model.baskets[key]
        if what == "end" and self._is_news(key):
            return
        if what == "extend" and self.model.now + days * DAY == modelled.expires:
            return  # Time does go on between two calls, if only by a millisecond, and the model does not know it.
        values = {"basket": self._basket(key), **self._repair_arguments(key)}
        by_model, by_service = {
            "extend": (lambda: self.model.staff_extend(key, days), lambda: basket_repairs.extend(**values, days=days)),
            "end": (lambda: self.model.staff_end(key), lambda: basket_repairs.end(**values)),
            "settle": (lambda: self.model.staff_settle_all(key), lambda: attention_repairs.resolve_all(**values)),
        }[what]
        self._repair(key, by_model, by_service)

    @precondition(lambda self: self.model.baskets)
    @rule(data=st.data())
    def erase(self, data: st.DataObject) -> None:
        key = self._some_basket(data)
        if self._is_news(key):
            return
        values = {"basket": self._basket(key), **self._repair_arguments(key)}
        name = key[0], f"erased {len(self.names)}"

        def erase() -> None:
            self.names[name] = erasure.erase_user(**values).user_id

        self._repair(key, lambda: self.model.erase(key, name), erase)
        self._compare_comfort()

    def _is_news(self, key: Key) -> bool:
        """A repair of a lapsed session is stale: its expiry comes first and changes what staff saw."""
        active = self.model.baskets[key].active
        return active is not None and self.model.lapsed(active)

    @rule(item=items, count=counts)
    def change_item(self, item: tuple[Key, str], count: int) -> None:
        key, product = item
        if key not in self.model.baskets:
            return  # There is no page to do it on.
        values = {"basket": self._basket(key), "product_id": product, "count": count, **self._repair_arguments(key)}
        self._repair(key, lambda: self.model.staff_change(key, product, count), lambda: basket_repairs.change_item(**values))

    @rule(product=products, number=st.integers(-4, 4))
    def adjust(self, product: str, number: int) -> None:
        values = {"product_id": product, "pieces": number, "expected_adjustment": stock_repairs.last_adjustment(product)}
        self._repair(
            KEYS[0],
            lambda: self.model.adjust(product, number),
            lambda: stock_repairs.adjust_supply(**values, reason="a box", actor=STAFF),
        )

    # --- What they have in common --------------------------------------------------

    def _repair(self, key: Key, by_model: Callable[[], Any], by_service: Callable[[], Any]) -> None:
        def repaired() -> None:
            try:
                runner.run(by_service)
            except errors.Refusal as refusal:
                raise as_refused(refusal) from refusal

        self._step(key, by_model, repaired, answers=False)

    def _repair_arguments(self, key: Key) -> dict[str, Any]:
        return {"expected_events": self._basket(key).events, "reason": "ticket", "actor": STAFF}

    def _basket(self, key: Key) -> Basket:
        return Basket.objects.get(pk=self.domain.user(key).owner.basket_id)

    def _some_basket(self, data: st.DataObject) -> Key:
        return data.draw(st.sampled_from(sorted(self.model.baskets)))
