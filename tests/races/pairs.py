"""Two calls that meet at one basket: what may come of them is what comes of them one after the other, in either order.

Nobody writes down what is right: the calls themselves say it, run alone.
"""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from django.apps import apps
from django.db import connection

from baskets.domain import checker, checkout, errors, expiry, repair, stock, transactions
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.retries import in_transaction
from baskets.models import Attention, Basket, CheckoutSession, Event, StockReservation
from baskets.models.contents import Contents, Owner, read_contents
from tests.domain.worlds import User, available
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.races.barrier import WAIT_SECONDS, together

STAFF = Actor(kind=ActorKind.STAFF, name="rita")


@dataclass(frozen=True)
class World:
    """One user in the middle of something, and what staff saw of it before anything met."""

    anna: User
    session: CheckoutSession
    seen: int


def built(kind: str) -> World:
    """Empty the tables, and bring a user to where the calls meet: `active`, `lapsed`, `aborted` or `expired`."""
    tables = ", ".join(model._meta.db_table for model in apps.get_app_config("baskets").get_models())
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables}")
    for product in ("shirt", "cap"):
        ProductFactory(product_id=product, unsold=5)
    anna = User(Owner(partner_id=PartnerFactory(late_orders="accept").pk, user_id="anna"))
    anna.place("shirt", 3)
    anna.place("cap", 1)
    anna.start()
    if kind == "aborted":
        anna.finish(ordered=False)
    else:
        anna.place("cap", 2)
    if kind in ("lapsed", "expired"):
        anna.wait(minutes=31)
    if kind == "expired":
        expiry.sweep_sessions()
    return World(anna=anna, session=CheckoutSession.objects.get(), seen=Basket.objects.get().events)


Operation = Callable[[World], Any]


def _report(world: World) -> Any:
    return in_transaction(lambda: stock.set_unsold(reports={"shirt": 2, "cap": 9}, as_of=None, reason="feed", actor=TESTER))


def _another_buyer(world: World) -> Any:
    """Somebody who needs the pieces, and reclaims them where they have lapsed."""
    ben = world.anna.beside("ben")
    ben.place("shirt", 4)
    return ben.start()


def _sweep(world: World) -> None:
    """How many it found is no matter: it passes baskets in use."""
    expiry.sweep_sessions()


def _repaired(operation: Callable[..., Any], **more: Any) -> Operation:
    def repaired(world: World) -> Any:
        said = {"session": world.session, "expected_events": world.seen, "reason": "asked for", "actor": STAFF} | more
        return transactions.run(lambda _: operation(**said))

    return repaired


OPERATIONS: dict[str, Operation] = {
    "order": lambda world: world.anna.finish(ordered=True),
    "abort": lambda world: world.anna.finish(ordered=False),
    "order by number": lambda world: world.anna.finish(ordered=True, order_no=world.session.order_no),
    "start": lambda world: world.anna.start(),
    "place": lambda world: world.anna.place("shirt", 2),
    "remove": lambda world: world.anna.remove("cap"),
    "delete": lambda world: world.anna.delete(),
    "sweep": _sweep,
    "expire": lambda world: expiry.expire_session(basket_id=world.anna.owner.basket_id),
    "another buyer": _another_buyer,
    "feed": _report,
    "staff aborts": _repaired(repair.abort),
    "staff orders": _repaired(repair.finish_as_ordered),
    "staff orders late": _repaired(repair.order_late, accept_short=False, reclaim=False),
}


def outcome_of(call: Callable[[], Any]) -> Any:
    """What a call says, without what differs from run to run."""
    try:
        return told(call())
    except Exception as error:  # noqa: BLE001 (an outcome like any other: it is compared)
        return told(error)
    finally:
        if threading.current_thread() is not threading.main_thread():
            connection.close()


def told(outcome: Any) -> Any:
    match outcome:
        case checkout.StartedSession(contents=contents):
            return "started", *_lists(contents)
        case Contents():
            return _lists(outcome)
        case errors.OutOfStock(missing=missing):
            return outcome.reason, sorted((item.product_id, item.wanted, item.available) for item in missing)
        case errors.Refusal():
            return outcome.reason
        case Exception():
            return f"{type(outcome).__name__}: {outcome}"
    return outcome


def _lists(contents: Contents) -> tuple[Any, ...]:
    return (
        contents.present,
        [(line.product_id, line.count) for line in contents.cart],
        [(line.product_id, line.count) for line in contents.saved],
        [(line.product_id, line.count, line.stocked) for line in contents.checkout],
    )


def settled(world: World) -> Any:
    """All that is stored once a sweep has been by, which passes baskets in use; without numbers that differ from run to run."""
    expiry.sweep_sessions()
    assert checker.findings() == []
    return {
        "baskets": {user: _lists(c) for user in ("anna", "ben") if (c := read_contents(world.anna.beside(user).owner.basket_id))},
        "stock": {product: available(product) for product in ("shirt", "cap")},
        "sessions": Counter(CheckoutSession.objects.values_list("basket__user_id", "status", "late")),
        "reservations": Counter(StockReservation.objects.values_list("basket__user_id", "product_id", "status", "pieces")),
        "flags": Counter(Attention.objects.values_list("basket__user_id", "reason")),
        "events": Counter(Event.objects.values_list("basket__user_id", "kind")),
    }


# What these need to have expired is expired in a transaction of its own, and another call may come between.
IN_TWO_STEPS = {"start", "delete", "another buyer"}


def one_after_the_other(kind: str, first: str, second: str, *, expired_before: bool = False) -> Any:
    world = built(kind)
    if expired_before:
        OPERATIONS["expire"](world)
    outcomes = {first: outcome_of(lambda: OPERATIONS[first](world))}
    outcomes[second + " second" * (first == second)] = outcome_of(lambda: OPERATIONS[second](world))
    return outcomes, settled(world)


def at_once(kind: str, first: str, second: str) -> Any:
    """At a barrier: chance decides who comes first."""
    world = built(kind)
    outcomes = [told(outcome) for outcome in together([lambda: OPERATIONS[first](world), lambda: OPERATIONS[second](world)])]
    return dict(zip((first, second + " second" * (first == second)), outcomes, strict=True)), settled(world)


def while_held(kind: str, first: str, second: str, lock: str) -> Any:
    """One after the other into a lock that somebody else holds, so that the first is frozen there when the second comes."""
    world = built(kind)
    with ThreadPoolExecutor(2) as pool, _holding(lock):
        running: list[Future[Any]] = []
        for name in (first, second):
            running.append(pool.submit(outcome_of, lambda name=name: OPERATIONS[name](world)))
            _until_stuck_or_done(running)
    outcomes = [call.result(WAIT_SECONDS) for call in running]
    return dict(zip((first, second + " second" * (first == second)), outcomes, strict=True)), settled(world)


LOCKS = {
    "basket": "SELECT FROM baskets_basket WHERE user_id = 'anna' FOR UPDATE",
    "shirts": "SELECT FROM baskets_stock WHERE product_id = 'shirt' FOR UPDATE",
    "caps": "SELECT FROM baskets_stock WHERE product_id = 'cap' FOR UPDATE",
}


@contextmanager
def _holding(lock: str) -> Iterator[None]:
    parameters = connection.get_connection_params()
    for name in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(name, None)
    with psycopg.connect(**parameters) as holder:
        holder.execute(LOCKS[lock])
        yield
        holder.rollback()


def _until_stuck_or_done(running: "list[Future[Any]]") -> None:
    deadline = time.monotonic() + 2
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute(waiting)
            if cursor.fetchone()[0] >= sum(not call.done() for call in running):
                return
        time.sleep(0.005)
