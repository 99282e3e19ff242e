"""Buyers that go on while something fails."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from django.db import DatabaseError, InterfaceError, close_old_connections

from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory
from tests.threads import beside


class Buyers:
    """What three threads that buy one piece after the other know: what was acknowledged, and what failed."""

    def __init__(self) -> None:
        self.orders: list[tuple[str, float]] = []
        self.failures: list[Exception] = []

    def bought_since(self, moment: float) -> int:
        return sum(at > moment for _, at in self.orders)


@contextmanager
def buying(owner: Owner) -> Iterator[Buyers]:
    """Let three threads buy during a block."""
    made, ended = Buyers(), threading.Event()

    def buy(number: int) -> None:
        count = 0
        while not ended.is_set():
            count += 1
            user = User(owner).beside(f"{number}-{count}")
            try:
                user.place("song")
                order_no = user.start().session.order_no
                user.finish(ordered=True)
                made.orders.append((order_no, time.monotonic()))
            except (DatabaseError, InterfaceError) as error:
                made.failures.append(error)
                close_old_connections()
                time.sleep(0.02)

    with beside(*(partial(buy, number) for number in range(3)), stop=ended.set):
        yield made


def shop(stock: int) -> User:
    ProductFactory(product_id="song", unsold=stock)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
