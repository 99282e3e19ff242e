"""Buyers that go on while something fails."""

import threading
import time

from django.db import DatabaseError, InterfaceError, close_old_connections, connections

from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory


class Buyers:
    """Three threads that buy one piece after the other, and note what was acknowledged and what failed."""

    def __init__(self, owner: Owner) -> None:
        self.orders: list[tuple[str, float]] = []
        self.failures: list[Exception] = []
        self._owner = owner
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(3)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        try:
            self._buy(number)
        finally:
            connections.close_all()

    def _buy(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            count += 1
            user = User(self._owner).beside(f"{number}-{count}")
            try:
                user.place("song")
                order_no = user.start().session.order_no
                user.finish(ordered=True)
                self.orders.append((order_no, time.monotonic()))
            except (DatabaseError, InterfaceError) as error:
                self.failures.append(error)
                close_old_connections()
                time.sleep(0.02)

    def bought_since(self, moment: float) -> int:
        return sum(at > moment for _, at in self.orders)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def shop(stock: int) -> User:
    ProductFactory(product_id="song", unsold=stock)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
