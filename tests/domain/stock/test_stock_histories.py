"""Random histories of reports, counts, sales and reversals: stock is what the reports mean, in whatever order they arrive."""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from django.db import transaction

from baskets.domain.checkout import expiry
from baskets.domain.errors import Refusal
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import guards
from baskets.models import CheckoutSession, Stock
from baskets.models.basket_snapshot import Owner
from tests.domain.maintenance.test_retention import purged
from tests.domain.scenarios import User
from tests.domain.stock.reporting import deliver, now, order, report, reverse
from tests.factories import PartnerFactory, ProductFactory
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db(transaction=True)
Step = Callable[[], None]


@dataclass
class StockScenario:
    """What happened to product x, each with its moment; summed up afresh at each look."""

    reports: list[tuple[datetime, int, int | None]] = field(default_factory=list)
    pieces: list[tuple[datetime, int]] = field(default_factory=list)
    held: dict[str, int] = field(default_factory=dict)

    def latest(self) -> tuple[datetime, int | None]:
        moment, _, unsold = max(self.reports, key=lambda known: known[:2])
        return moment, unsold

    def free(self) -> int | None:
        """Unsold at the moment of the latest report, less what is held and was sold since, plus what came in; None is unlimited."""
        moment, unsold = self.latest()
        return None if unsold is None else unsold - sum(self.held.values()) + sum(number for at, number in self.pieces if at > moment)

    def passes(self, days: int) -> None:
        past = timedelta(days=days)
        self.reports = [(moment - past, number, unsold) for moment, number, unsold in self.reports]
        self.pieces = [(at - past, number) for at, number in self.pieces]


class History:
    """Chance lets things happen to product x, in the service and in the world alike."""

    def __init__(self, seed: int) -> None:
        self.rng, self.world = random.Random(seed), StockScenario()
        ProductFactory(product_id="x")
        partner = PartnerFactory()
        self.users = [User(Owner(partner_id=partner.pk, user_id=f"user-{number}")) for number in range(4)]
        self.orders: list[CheckoutSession] = []
        self.moments = [now()]
        self.report(self.rng.randint(5, 20), None)

    def step(self) -> None:
        user = self.rng.choice(self.users)
        holds = user.owner.user_id in self.world.held
        steps: list[Step] = [
            *[lambda: self.report(self.rng.choice([None, 0, 3, 8, 15, 15]), self.rng.choice([None, *self.moments[-6:]]))] * 3,
            *[lambda: self.end(user, ordered=self.rng.random() < 0.6) if holds else self.buy(user)] * 3,
            *[lambda: None if holds or self.world.free() is None else self.hold(user)] * 2,
            self.adjust,
            *[self.reverse if self.orders else self.adjust],
            *[lambda: None if self.world.held or self.rng.random() < 0.5 else self.purge()],
        ]
        self.rng.choice(steps)()
        self.moments.append(now())

    def report(self, unsold: int | None, as_of: datetime | None) -> None:
        try:
            report(unsold, as_of)
        except supply.SalesPurged:
            assert as_of is not None
            assert any(as_of < at < now() - timedelta(days=365) for at, _ in self.world.pieces)
        else:
            self.world.reports.append((as_of or now(), len(self.world.reports), unsold))

    def buy(self, user: User) -> None:
        pieces = self.rng.randint(1, 3)
        try:
            session = order(user, pieces)
        except Refusal:
            assert (self.world.free() or 0) < pieces
            user.delete()
        else:
            self.world.pieces.append((session.finished_at or now(), -pieces))
            self.orders.append(session)

    def hold(self, user: User) -> None:
        pieces = self.rng.randint(1, 3)
        user.place("x", pieces)
        try:
            user.start()
        except Refusal:
            assert (self.world.free() or 0) < pieces
            user.delete()
        else:
            self.world.held[user.owner.user_id] = pieces

    def end(self, user: User, *, ordered: bool) -> None:
        pieces = self.world.held.pop(user.owner.user_id)
        user.finish(ordered=ordered)
        if ordered:
            self.world.pieces.append((now(), -pieces))
        else:
            user.delete()

    def adjust(self) -> None:
        pieces = self.rng.choice([-2, 1, 5])
        with suppress(guards.RepairNotApplicable, supply.SupplyBelowZero), transaction.atomic():
            deliver(pieces)
            self.world.pieces.append((now(), pieces))

    def reverse(self) -> None:
        session = self.orders.pop(self.rng.randrange(len(self.orders)))
        reverse(session)
        self.world.pieces.append((now(), sum(session.items.values_list("count", flat=True))))

    def purge(self) -> None:
        age_all_rows(timedelta(days=31))
        expiry.sweep_baskets()
        age_all_rows(timedelta(days=400))
        self.world.passes(days=431)
        self.moments = [moment - timedelta(days=431) for moment in self.moments]
        purged()
        self.orders = [session for session in self.orders if CheckoutSession.objects.filter(pk=session.pk).exists()]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_in_whatever_order_stock_is_what_the_reports_mean(seed: int) -> None:
    history = History(seed)
    for _ in range(40):
        history.step()
        free = history.world.free()
        row = Stock.objects.get(pk="x")
        assert row.limited is (free is not None)
        assert free is None or (row.available, row.shortfall) == (max(free, 0), max(-free, 0))
    assert invariant_checker.check() == []
