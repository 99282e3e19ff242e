"""The machine: chance calls the service and the model alike, and after each step both must say and hold the same."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django.apps import apps
from django.db import connection, models
from django.db.models import F
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from baskets.domain import catalogue, checker, errors, expiry, repair, transactions
from baskets.domain.actors import Actor, ActorKind
from baskets.models import Basket, CheckoutSession, Partner
from baskets.models.contents import read_contents
from tests.factories import PartnerFactory
from tests.model.callers import Domain, Http, Started, as_refused
from tests.model.shop import Shop
from tests.model.state import Key, Product, Refused, Session

STAFF = Actor(kind=ActorKind.STAFF, name="rita")
# Ids are alike in both partners, and "5"/"50" share digits with partners' keys: what separates users must be the pair.
KEYS: list[Key] = [(0, "anna"), (1, "anna"), (0, "5"), (1, "ben")]
PRODUCTS = ["cap", "lamp", "mug", "song", "vase"]
ACCEPTING = frozenset({1})
# Seconds that never add up to a limit of the contract, so that the milliseconds a step takes decide nothing.
WAITS = [433, 1861, 40_009, 86_477, 2_600_017]

users = st.sampled_from(KEYS)
products = st.sampled_from(PRODUCTS)
counts = st.integers(-1, 4)
pieces = st.integers(0, 8)


class Machine(RuleBasedStateMachine):
    """Steps are counted on the class, over all examples."""

    steps: ClassVar[int] = 0
    examples: ClassVar[int] = 0
    around: ClassVar[Callable[[], Any]]
    caller: ClassVar[Callable[[list[Partner]], Domain | Http]]

    def __init__(self) -> None:
        super().__init__()
        self._around = type(self).around()
        self._around.__enter__()
        try:
            self._open_the_shop()
        except BaseException:
            self._around.__exit__(None, None, None)
            raise

    def _open_the_shop(self) -> None:
        type(self).examples += 1
        partners = [PartnerFactory(late_orders="refuse"), PartnerFactory(late_orders="accept")]
        self.domain = Domain([partner.pk for partner in partners])
        self.real = type(self).caller(partners)
        self.model = Shop(accepting=ACCEPTING)
        for number, name in enumerate(PRODUCTS):
            self.model.products[name] = Product(price=None if name == "vase" else 100 * number + 99)
        self._import(dict.fromkeys(PRODUCTS))
        for name, unsold in {"cap": 3, "lamp": 2, "mug": 6}.items():
            self.report(name, unsold, 0)

    def teardown(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            assert checker.findings() == []
        finally:
            self._around.__exit__(None, None, None)

    # --- Apps -------------------------------------------------------------------

    @rule(key=users, product=products, count=counts)
    def place(self, key: Key, product: str, count: int) -> None:
        self._step(key, lambda: self.model.place(key, product, count), lambda: self.real.place(key, product, count))

    @rule(key=users, product=products, count=st.none() | counts)
    def change(self, key: Key, product: str, count: int | None) -> None:
        self._step(key, lambda: self.model.change(key, product, count), lambda: self.real.change(key, product, count))

    @rule(key=users, product=products)
    def remove(self, key: Key, product: str) -> None:
        self._step(key, lambda: self.model.remove(key, product), lambda: self.real.remove(key, product))

    @rule(key=users)
    def delete(self, key: Key) -> None:
        self._step(key, lambda: self.model.delete(key), lambda: self.real.delete(key))

    @rule(key=users, test=st.sampled_from([False, False, False, True]))
    def start(self, key: Key, test: bool) -> None:
        def modelled() -> Session:
            return self.model.start(key, test=test)

        def done() -> Any:
            started: Started = self.real.start(key, test=test)
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
    def finish_somebodys(self, data: st.DataObject, key: Key, ordered: bool) -> None:
        """With a number that may be another user's."""
        self._finish(key, ordered, self._some_session(data)[1].order_no)

    def _finish(self, key: Key, ordered: bool, order_no: str | None) -> None:
        self._step(
            key,
            lambda: self.model.finish(key, ordered=ordered, order_no=order_no),
            lambda: self.real.finish(key, ordered=ordered, order_no=order_no),
        )

    # --- The shop ---------------------------------------------------------------

    @rule(product=products, unsold=st.none() | pieces, ago=st.sampled_from([0, 0, 600, 50_000]))
    def report(self, product: str, unsold: int | None, ago: int) -> None:
        self.model.report(product, unsold, as_of=self.model.now - ago)
        self._import({product: unsold}, ago=ago)
        self._compare()

    @rule(product=products, listed=st.booleans())
    def list_or_unlist(self, product: str, listed: bool) -> None:
        self.model.products[product].listed = listed
        self._import({product: catalogue.LEFT_ALONE})
        self._compare()

    def _import(self, stock: dict[str, Any], *, ago: int = 0) -> None:
        rows = [
            catalogue.ProductRow(product_id=name, name=name, price=known.price, currency="EUR", listed=known.listed, stock=unsold)
            for name, unsold in stock.items()
            for known in (self.model.products[name],)
        ]
        as_of = None
        if ago:
            with connection.cursor() as cursor:
                cursor.execute("SELECT statement_timestamp() - make_interval(secs => %s)", [ago])
                as_of = cursor.fetchone()[0]
        with connection.cursor() as cursor:
            # Of the last import, where its transaction is that of the whole example.
            cursor.execute("DROP TABLE IF EXISTS pg_temp.staged_product")
        catalogue.import_products(rows=rows, as_of=as_of, reason="feed", actor=STAFF)

    # --- Staff ------------------------------------------------------------------

    @precondition(lambda self: self.model.sessions)
    @rule(data=st.data(), what=st.sampled_from(["order", "abort", "late", "late short", "reverse"]))
    def repair_session(self, data: st.DataObject, what: str) -> None:
        key, modelled = self._some_session(data)
        session = CheckoutSession.objects.get(order_no=modelled.order_no)
        said = {"session": session, "expected_events": self._events(session.basket_id), "reason": "asked for", "actor": STAFF}
        accept = what == "late short"
        by_model, by_service = {
            "order": (lambda: self.model.staff_finish(modelled, key, ordered=True), lambda _: repair.finish_as_ordered(**said)),
            "abort": (lambda: self.model.staff_finish(modelled, key, ordered=False), lambda _: repair.abort(**said)),
            "reverse": (lambda: self.model.staff_reverse(modelled), lambda _: repair.reverse_order(**said)),
        }.get(
            what,
            (
                lambda: self.model.staff_order_late(modelled, key, accept=accept),
                lambda reclaim: repair.order_late(**said, accept_short=accept, reclaim=reclaim),
            ),
        )
        self._step(key, by_model, lambda: self._repaired(by_service), answers=False)

    @rule(product=products, number=st.integers(-4, 4))
    def adjust(self, product: str, number: int) -> None:
        said = {"product_id": product, "pieces": number, "expected_adjustment": repair.last_adjustment(product)}
        self._step(
            KEYS[0],
            lambda: self.model.adjust(product, number),
            lambda: self._repaired(lambda _: repair.adjust_supply(**said, reason="a box", actor=STAFF)),
            answers=False,
        )

    @precondition(lambda self: self.model.baskets)
    @rule(data=st.data(), what=st.sampled_from(["extend", "end"]), days=st.sampled_from([10, 60]))
    def repair_basket(self, data: st.DataObject, what: str, days: int) -> None:
        key = data.draw(st.sampled_from(sorted(self.model.baskets)))
        basket = Basket.objects.get(pk=self.domain.user(key).owner.basket_id)
        said = {"basket": basket, "expected_events": basket.events, "reason": "asked for", "actor": STAFF}
        lapsed = self.model.present(key) and (active := self.model.baskets[key].active) and self.model.lapsed(active)
        if what == "end" and lapsed:
            return  # Staff are told to look again: the expiry of the session is news to them.
        if what == "extend" and self.model.now + days * 24 * 3600 == self.model.baskets[key].expires:
            return  # Time does go on between two calls, if only by a millisecond, and the model does not know it.
        by_model, by_service = {
            "extend": (lambda: self.model.staff_extend(key, days), lambda _: repair.extend(**said, days=days)),
            "end": (lambda: self.model.delete(key), lambda _: repair.end(**said)),
        }[what]
        self._step(key, by_model, lambda: self._repaired(by_service), answers=False)

    @staticmethod
    def _repaired(operation: Callable[[bool], Any]) -> None:
        try:
            transactions.run(operation)
        except errors.Refusal as refusal:
            raise as_refused(refusal) from refusal

    # --- Time -------------------------------------------------------------------

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        """Let time pass for everything, by moving all that is stored into the past."""
        self.model.now += seconds
        for model in apps.get_app_config("baskets").get_models():
            times = [field.name for field in model._meta.local_concrete_fields if isinstance(field, models.DateTimeField)]
            if times:
                model._base_manager.update(**{name: F(name) - timedelta(seconds=seconds) for name in times})
        self._compare()

    @rule()
    def sweep(self) -> None:
        self.model.sweep()
        while expiry.sweep_sessions().found:
            pass
        while expiry.sweep_baskets().found:
            pass
        self._compare()

    # --- Comparing --------------------------------------------------------------

    def _step(self, key: Key, by_model: Callable[[], Any], by_service: Callable[[], Any], *, answers: bool = True) -> None:
        expected = actual = None
        try:
            by_model()
        except Refused as refused:
            expected = refused
        try:
            shown = by_service()
        except Refused as refused:
            actual = refused
        assert (actual and actual.args) == (expected and expected.args)
        if expected is None and answers:
            assert shown == self.model.shown(key)
        elif actual is not None and actual.told is not ...:
            assert actual.told == self.model.shown(key)
        self._compare()

    def _compare(self) -> None:
        """All that both hold: baskets with their revisions, stock, sessions with what became of their pieces, flags."""
        type(self).steps += 1
        for key in KEYS:
            contents = read_contents(self.domain.user(key).owner.basket_id)
            modelled = self.model.baskets.get(key)
            assert (contents and contents.revision) == (modelled and modelled.revision), key
            assert self.domain.basket(key) == self.model.shown(key), key
        with connection.cursor() as cursor:
            cursor.execute("SELECT product_id, limited, available, shortfall FROM baskets_stock ORDER BY 1")
            assert cursor.fetchall() == [
                (name, p.limited, p.available, p.shortfall) for name, p in sorted(self.model.products.items()) if p.counted
            ]
            cursor.execute(SESSIONS)
            assert cursor.fetchall() == sorted(
                (s.order_no, s.status, s.late, total(s.held), total(s.sold), total(s.short), sorted(s.flags))
                for _, s in self.model.sessions
            )

    # --- Choosing ---------------------------------------------------------------

    def _some_session(self, data: st.DataObject) -> tuple[Key, Session]:
        number = data.draw(st.integers(0, len(self.model.sessions) - 1))
        return self.model.sessions[-1 - number]

    @staticmethod
    def _events(basket_id: Any) -> int:
        return int(Basket.objects.get(pk=basket_id).events)


SESSIONS = """
SELECT s.order_no, s.status, s.late,
       coalesce((SELECT sum(pieces) FROM baskets_stockreservation WHERE session_id = s.id AND status = 'HELD'), 0)::int,
       coalesce((SELECT sum(pieces) FROM baskets_stockreservation WHERE session_id = s.id AND status = 'SOLD'), 0)::int,
       coalesce((SELECT sum(pieces) FROM baskets_stockreservation WHERE session_id = s.id AND status = 'SHORT'), 0)::int,
       ARRAY(SELECT reason::text FROM baskets_attention WHERE session_id = s.id ORDER BY reason)
FROM baskets_checkoutsession s ORDER BY s.order_no
"""


def total(numbers: dict[str, int]) -> int:
    return sum(numbers.values())
