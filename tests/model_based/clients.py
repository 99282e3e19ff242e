"""What users' apps call, as rules of the machine."""

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.model_based.machine import KEYS, SANDBOX, ShopStateMachine, counts, items, products, sandbox_products, users
from tests.model_based.state import Key, Session

# Guests do not end a long example in a crowd of users who never meet.
MAX_GUESTS = 2


class ClientStateMachine(ShopStateMachine):
    """Lists, checkouts, guests, transfers and comfort settings."""

    @rule(key=users, product=products, count=counts)
    def place(self, key: Key, product: str, count: int) -> None:
        self._step(key, lambda: self.model.place(key, product, count), lambda: self.real.place(key, product, count))

    @rule(item=items, count=st.none() | counts)
    def change(self, item: tuple[Key, str], count: int | None) -> None:
        key, product = item
        self._step(key, lambda: self.model.change(key, product, count), lambda: self.real.change(key, product, count))

    @rule(item=items)
    def remove(self, item: tuple[Key, str]) -> None:
        key, product = item
        self._step(key, lambda: self.model.remove(key, product), lambda: self.real.remove(key, product))

    @rule(key=users)
    def delete(self, key: Key) -> None:
        self._step(key, lambda: self.model.delete(key), lambda: self.real.delete(key))

    @initialize(wanted=st.sampled_from(["cap", "lamp"]), past=st.booleans())
    def begin(self, wanted: str, past: bool) -> None:
        """Chance alone seldom comes far: each example begins with two checkouts that want the same, or with a user's past."""
        if past:
            self.change_comfort(KEYS[0], {"customer_id": "c-1"}, consent=True)
            for ordered in (True, False):
                self.check_out(KEYS[0], {wanted: 1})
                self.finish(KEYS[0], ordered)
            self.finish(KEYS[0], ordered=True)
            self.wait(86_477)
        else:
            self.check_out(KEYS[0], {wanted: 2, "mug": 1})
            self.check_out(KEYS[1], {wanted: 2, "song": 1})
            self.check_out(SANDBOX, {"sandbox-gone-late": 1, "sandbox-last-one": 2, "sandbox-plenty": 2})
            self.finish(SANDBOX, ordered=False)
            self._finish(SANDBOX, True, self.model.sessions[-1][1].order_no)

    @rule(key=users, wanted=st.dictionaries(products, st.integers(1, 3), min_size=1, max_size=2))
    def check_out(self, key: Key, wanted: dict[str, int]) -> None:
        for product, count in wanted.items():
            self.place(key, product, count)
        self.start(key, test=False)

    @rule(wanted=st.dictionaries(sandbox_products, st.integers(1, 3), min_size=1, max_size=3))
    def check_out_in_the_sandbox(self, wanted: dict[str, int]) -> None:
        self.check_out(SANDBOX, wanted)

    @rule(key=users, product=sandbox_products, count=counts)
    def place_product_of_the_sandbox(self, key: Key, product: str, count: int) -> None:
        self.place(key, product, count)

    @rule(key=users, test=st.sampled_from([False, False, False, True]))
    def start(self, key: Key, test: bool) -> None:
        def modelled() -> Session:
            return self.model.start(key, test=test)

        def done() -> Any:
            started = self.real.start(key, test=test)
            session = self.model.sessions[-1][1]
            session.order_no = started.order_no
            assert started.price == self.model.price_of(session)
            return started.shown

        self._step(key, modelled, done)

    @rule(key=users, ordered=st.booleans())
    def finish(self, key: Key, ordered: bool) -> None:
        self._finish(key, ordered, None)

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data(), ordered=st.booleans())
    def finish_by_number(self, data: st.DataObject, ordered: bool) -> None:
        key, session = self._some_session(data)
        self._finish(key, ordered, session.order_no)

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data(), key=users, ordered=st.booleans())
    def finish_session_of_another_user(self, data: st.DataObject, key: Key, ordered: bool) -> None:
        """With a number that may be another user's."""
        self._finish(key, ordered, self._some_session(data)[1].order_no)

    def _finish(self, key: Key, ordered: bool, order_no: str | None) -> None:
        self._step(
            key,
            lambda: self.model.finish(key, ordered=ordered, order_no=order_no),
            lambda: self.real.finish(key, ordered=ordered, order_no=order_no),
        )

    # --- Devices ----------------------------------------------------------------

    @precondition(lambda self: len(self.keys) < len(KEYS) + MAX_GUESTS)
    @rule(partner=st.integers(0, 1), wanted=st.dictionaries(products, st.integers(0, 3), max_size=4))
    def create_guest(self, partner: int, wanted: dict[str, int]) -> None:
        key = partner, f"guest {len(self.keys)}"
        self._step(key, lambda: self.model.create_guest(key, wanted), lambda: self.real.create_guest(key, wanted))
        if key in self.model.baskets:
            self.keys.append(key)

    @rule(key=users)
    def offer(self, key: Key) -> None:
        self._step(key, lambda: self.model.offer(key), lambda: self.tokens.append(self.real.offer(key)), answers=False)

    @precondition(lambda self: self.tokens)
    @rule(data=st.data(), partner=st.integers(0, 1))
    def take_over(self, data: st.DataObject, partner: int) -> None:
        number = data.draw(st.integers(0, len(self.tokens) - 1))
        key = self.model.offers[number].key

        def done() -> Any:
            user_id, shown = self.real.take_over(partner, self.tokens[number])
            assert user_id == self.names.get(key, key[1])
            return shown

        self._step(key, lambda: self.model.take_over(partner, number), done)

    @rule(
        key=st.sampled_from(KEYS),
        values=st.dictionaries(st.sampled_from(["customer_id", "payment_token"]), st.sampled_from([None, "c-1", "c-2"])),
        consent=st.sampled_from([True, True, None, False]),
    )
    def change_comfort(self, key: Key, values: dict[Any, str | None], consent: bool | None) -> None:
        self._step(
            key,
            lambda: self.model.change_comfort(key, values, consent=consent),
            lambda: self.real.change_comfort(key, values, consent=consent),
        )
        self._compare_comfort()
