"""The machine: chance calls the service and the model alike, and after each step both must say and hold the same.

Here are the shop, the time and what is compared; what users call is in `apps`, what staff do in `desk`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar

from django.db import connection
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from baskets.domain import errors
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.checkout import expiry
from baskets.domain.comfort import read_comfort
from baskets.domain.events import feed
from baskets.domain.maintenance import invariant_checker, retention
from baskets.domain.stock import catalog, sandbox_catalog
from baskets.domain.support import sandboxes
from baskets.models import Attention, Basket, Comfort, Partner
from baskets.models.basket_snapshot import read_baskets
from tests.domain.endings import assert_ends_alike
from tests.factories import PartnerFactory
from tests.model_based.callers import Domain, Http, as_refused, shown
from tests.model_based.staff_model import RETENTION, Office
from tests.model_based.state import Key, Product, Refused, Session
from tests.time_travel import age_all_rows

STAFF = Actor(kind=ActorKind.STAFF, name="rita")
# Ids are alike in both partners, and "5"/"50" share digits with partners' keys: what separates users must be the pair.
# The third partner is the sandbox of the first.
KEYS: list[Key] = [(0, "anna"), (1, "anna"), (0, "5"), (1, "ben"), (2, "anna")]
SANDBOX = KEYS[-1]
PRODUCTS = ["cap", "lamp", "mug", "song", "vase"]
# Time is the model's, while a hold of five seconds ends by the clock; the model does not know of a start that is busy once.
OUTSIDE_OF_THE_MODEL = {"sandbox-short-hold", "sandbox-busy-once"}
SANDBOX_PRODUCTS = sorted(sandbox_catalog.PRODUCTS.keys() - OUTSIDE_OF_THE_MODEL)
ACCEPTING = frozenset({1})
# Seconds that never add up to a limit of the contract, so that the milliseconds a step takes decide nothing.
WAITS = [433, 1861, 40_009, 86_477, 2_600_017]

users = st.runner().flatmap(lambda machine: st.sampled_from(machine.keys))
products = st.sampled_from(PRODUCTS)
sandbox_products = st.sampled_from(SANDBOX_PRODUCTS)
items = st.runner().flatmap(lambda machine: st.sampled_from(machine.items()))
counts = st.sampled_from([1, 2, 3, 4, 0, -1])
pieces = st.integers(0, 8)


class ShopStateMachine(RuleBasedStateMachine):
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
            self._set_up_shop()
        except BaseException:
            self._around.__exit__(None, None, None)
            raise

    def _set_up_shop(self) -> None:
        type(self).examples += 1
        partners = [PartnerFactory(late_orders="refuse"), PartnerFactory(late_orders="accept")]
        partners.append(sandboxes.open_sandbox(partner_name=partners[0].name, actor=STAFF))
        self.domain = Domain([partner.pk for partner in partners])
        self.real = type(self).caller(partners)
        self.names = self.domain.names = self.real.names
        self.keys = list(KEYS)
        self.tokens: list[str] = []
        self.model = Office(accepting=ACCEPTING, sandboxes=frozenset({SANDBOX[0]}))
        for name in SANDBOX_PRODUCTS:
            known = sandbox_catalog.PRODUCTS[name]
            self.model.products[name] = Product(
                price=known.price,
                sandbox=True,
                most=known.most,
                unlisted_at_start=known.unlisted_at_start,
                gone_when_late=known.gone_when_late,
            )
            self.model.report(name, known.stock, ago=0)
        for number, name in enumerate(PRODUCTS):
            self.model.products[name] = Product(price=None if name == "vase" else 100 * number + 99)
        for name in PRODUCTS:
            self.report(name, None, 0)
        for name, unsold in {"cap": 3, "lamp": 2, "mug": 6}.items():
            self.report(name, unsold, 0)

    def teardown(self) -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            assert invariant_checker.check_invariants() == []
            self._compare_comfort()
        finally:
            self._around.__exit__(None, None, None)

    # --- The shop ---------------------------------------------------------------

    @rule(product=products, unsold=st.none() | pieces, ago=st.sampled_from([0, 0, 600, 50_000, 100_000]))
    def report(self, product: str, unsold: int | None, ago: int) -> None:
        self._step(
            KEYS[0],
            lambda: self.model.report(product, unsold, ago=ago),
            lambda: self._import({product: unsold}, ago=ago),
            answers=False,
        )

    @rule(product=products, listed=st.sampled_from([True, True, False]))
    def list_or_unlist(self, product: str, listed: bool) -> None:
        self.model.products[product].listed = listed
        self._import({product: catalog.UNSPECIFIED})
        self._compare()

    def _import(self, stock: dict[str, Any], *, ago: int = 0) -> None:
        rows = [
            catalog.ProductRow(product_id=name, name=name, price=known.price, currency="EUR", listed=known.listed, stock=unsold)
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
        try:
            catalog.import_products(rows=rows, as_of=as_of, reason="feed", actor=STAFF)
        except errors.Refusal as refusal:
            raise as_refused(refusal) from refusal

    # --- Time -------------------------------------------------------------------

    @rule(seconds=st.sampled_from(WAITS))
    def wait(self, seconds: int) -> None:
        """Let time pass for everything, by moving all that is stored into the past."""
        self.model.now += seconds
        age_all_rows(timedelta(seconds=seconds))
        self._compare()

    @rule()
    def sweep(self) -> None:
        self.model.sweep()
        assert_ends_alike()
        while expiry.sweep_sessions().found:
            pass
        while expiry.sweep_baskets().found:
            pass
        self._compare()

    @rule()
    def purge(self) -> None:
        """Purge old events and sessions; all events get their feed position first."""
        self.model.purge()
        feed.assign_positions()
        after = None
        while (batch := retention.purge_baskets(older_than=timedelta(seconds=RETENTION), after=after)).last is not None:
            after = batch.last
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
        elif actual is not None and actual.basket_shown is not ...:
            assert actual.basket_shown == self.model.shown(key)
        self._compare()

    def _compare(self) -> None:
        """All that both hold: baskets and their timelines, stock, sessions with what became of their pieces, flags."""
        type(self).steps += 1
        ids = {key: self.domain.user(key).owner.basket_id for key in self.model.baskets}
        found = read_baskets(list(ids.values()))
        for key in {*KEYS, *ids}:
            assert shown(found.get(ids.get(key))) == self.model.shown(key), key
        assert sorted(Basket.objects.values_list("pk", "revision", "events", "events_purged", "guest")) == sorted(
            (ids[key], b.revision, b.purged + len(b.timeline), b.purged, b.guest) for key, b in self.model.baskets.items()
        )
        with connection.cursor() as cursor:
            cursor.execute(STOCK, [list(OUTSIDE_OF_THE_MODEL)])
            assert cursor.fetchall() == [
                (name, p.limited, self.model.available(name), max(-self.model.free(name), 0), self.model.supply(name))
                for name, p in sorted(self.model.products.items())
                if p.latest
            ]
            cursor.execute(SESSIONS)
            assert cursor.fetchall() == sorted(
                (
                    s.order_no,
                    ids[key],
                    s.status,
                    s.late,
                    self.model.price_of(s),
                    *(sum(numbers.values()) for numbers in (s.held, s.sold, s.short)),
                    s.reversed,
                    sorted(s.flags),
                    sorted(set(s.flags) - set(s.open())),
                    sorted(product for product, item in s.items.items() if item.released),
                )
                for key, s in self.model.sessions
            )
        assert {
            (order_no, reason): named and [(one["orderNo"], one["status"]) for one in named]
            for order_no, reason, named in Attention.objects.values_list("session__order_no", "reason", "candidates")
        } == {(s.order_no, reason): flag.candidates for _, s in self.model.sessions for reason, flag in s.flags.items()}

    def _compare_comfort(self) -> None:
        """What is stored for each user, and no row more."""
        owners = {key: self.domain.user(key).owner for key in self.model.comfort}
        assert set(Comfort.objects.values_list("pk", flat=True)) == {owner.basket_id for owner in owners.values()}
        for key, owner in owners.items():
            stored = read_comfort(owner=owner)
            values = {"customer_id": stored.customer_id, "payment_token": stored.payment_token}
            assert {name: value for name, value in values.items() if value is not None} == self.model.comfort[key]

    # --- Choosing ---------------------------------------------------------------

    def items(self) -> list[tuple[Key, str]]:
        """What is in the carts and saved lists, by user; and for each user something that may not be."""
        kept = [(key, product) for key, b in self.model.baskets.items() if key in self.keys for product in b.cart | b.saved]
        return kept + [(key, PRODUCTS[number % len(PRODUCTS)]) for number, key in enumerate(self.keys)]

    def _some_session(self, data: st.DataObject) -> tuple[Key, Session]:
        number = data.draw(st.integers(0, len(self.model.sessions) - 1))
        return self.model.sessions[-1 - number]


STOCK = """
SELECT s.product_id, s.limited, s.available, s.shortfall,
       (SELECT coalesce(sum(delta), 0) FROM baskets_stockadjustment a WHERE a.product_id = s.product_id)::int
FROM baskets_stock s WHERE s.product_id <> ALL(%s) ORDER BY 1
"""
SESSIONS = """
SELECT s.order_no, s.basket_id, s.status, s.late, s.full_price,
       coalesce((SELECT sum(pieces) FROM baskets_stockreservation WHERE session_id = s.id AND status = 'HELD'), 0)::int,
       coalesce((SELECT sum(pieces) FROM baskets_stockreservation WHERE session_id = s.id AND status = 'SOLD'), 0)::int,
       coalesce((SELECT sum(pieces) FROM baskets_stockreservation WHERE session_id = s.id AND status = 'SHORT'), 0)::int,
       s.reversed_at IS NOT NULL,
       ARRAY(SELECT reason::text FROM baskets_attention WHERE session_id = s.id ORDER BY reason),
       ARRAY(SELECT reason::text FROM baskets_attention WHERE session_id = s.id AND settled_at IS NOT NULL ORDER BY reason),
       ARRAY(SELECT product_id::text FROM baskets_checkoutitem WHERE session_id = s.id AND released_at IS NOT NULL ORDER BY product_id)
FROM baskets_checkoutsession s ORDER BY s.order_no
"""
