"""What shops and staff do to stock, in short: report, count, deliver, order, reverse."""

from datetime import datetime

from django.db import connection

from baskets.domain.actors import Actor, ActorKind
from baskets.domain.stock import supply
from baskets.domain.support import checkout_repairs, stock_repairs
from baskets.models import CheckoutSession
from tests.domain.scenarios import User
from tests.factories import TESTER

STAFF = Actor(kind=ActorKind.STAFF, name="rita")


def now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        return cursor.fetchone()[0]


def report(unsold: int | None, as_of: datetime | None = None, product_id: str = "x") -> supply.ReportsApplied:
    return supply.set_unsold(reports={product_id: unsold}, as_of=as_of, reason="feed", actor=TESTER)


def count(unsold: int | None, as_of: datetime | None) -> None:
    seen = stock_repairs.last_adjustment("x")
    stock_repairs.set_unsold(product_id="x", unsold=unsold, as_of=as_of, expected_adjustment=seen, reason="counted", actor=STAFF)


def deliver(pieces: int) -> None:
    seen = stock_repairs.last_adjustment("x")
    stock_repairs.adjust_supply(product_id="x", pieces=pieces, expected_adjustment=seen, reason="a box", actor=STAFF)


def order(user: User, pieces: int, product_id: str = "x") -> CheckoutSession:
    user.place(product_id, pieces)
    order_no = user.start().session.order_no
    user.finish(ordered=True)
    return CheckoutSession.objects.get(order_no=order_no)


def reverse(session: CheckoutSession) -> None:
    session.basket.refresh_from_db()
    checkout_repairs.reverse_order(session=session, expected_events=session.basket.events, reason="came back", actor=STAFF)
