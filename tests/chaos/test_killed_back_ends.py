"""A partner's back end, as the guides show it, is killed again and again. In the end it knows every order, exactly."""

import contextlib
import json
import random
import sqlite3
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from basket_project.launcher.cluster import free_port
from baskets.api.views import guides
from baskets.domain.access.api_keys import issue_api_key
from baskets.domain.events import feed, webhook_control, webhook_delivery, webhook_endpoints, webhook_failures
from baskets.models import CheckoutSession, Event
from baskets.models.basket_snapshot import Owner
from tests.api.process_server import process_server
from tests.chaos.restarted import kill_at_random, restarted
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.project.test_documents import fenced
from tests.threads import beside
from tests.waiting import eventually

CONSUMERS = 3
KILLS = 8
# Of each user, what becomes of the checkouts: ordered, aborted and then paid late, aborted.
OUTCOMES = [(True,), (False, True), (False,)]
ORDERED = {"checkout_ordered", "checkout_ordered_late"}

Order = tuple[str, str]


@pytest.fixture
def buyer(transactional_db: None, settings: Any, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user of TV, whose receivers are on this machine and are tried again soon."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    monkeypatch.setattr(webhook_failures, "FIRST_DELAY", timedelta(milliseconds=50))
    monkeypatch.setattr(webhook_failures, "MAX_DELAY", timedelta(milliseconds=200))
    ProductFactory(product_id="shirt", unsold=10_000)
    return User(Owner(partner_id=PartnerFactory(name="TV").pk, user_id="anna"))


def sell(buyer: User, enough: threading.Event) -> None:
    """Check out again and again, with every outcome."""
    number = 0
    while not enough.wait(0.01):
        number += 1
        user = buyer.beside(f"{buyer.owner.user_id}-{number}")
        user.place("shirt", 1)
        order_no = user.start().session.order_no
        for ordered in OUTCOMES[number % len(OUTCOMES)]:
            user.finish(ordered, order_no)


def stored(file: Path, query: str) -> list[Any]:
    """Read the store of a back end, which may not be there yet."""
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(file)) as database:
        return database.execute(query).fetchall()
    return []


def by_feed(file: Path) -> list[Order]:
    """The orders that a consumer of the feed knows."""
    return [(kind, order_no) for kind, order_no in stored(file, "SELECT kind, order_no FROM event ORDER BY rowid") if kind in ORDERED]


def by_webhook(file: Path) -> list[Order]:
    """The orders that a receiver of webhooks knows."""
    messages = [json.loads(body) for (body,) in stored(file, "SELECT body FROM message ORDER BY rowid")]
    return [(message["type"], message["data"]["orderNo"]) for message in messages if message["type"] in ORDERED]


def await_orders(known: Callable[[], list[Order]]) -> None:
    """Wait until a back end knows as many orders as there are. Then it knows exactly these."""
    events = Event.objects.filter(kind__in=ORDERED).select_related("session")
    expected = sorted((event.kind, event.session.order_no) for event in events if event.session)
    eventually(lambda: len(known()) >= len(expected))
    assert sorted(known()) == expected


def test_back_ends_that_are_killed_at_random_know_every_order(buyer: User, tmp_path: Path) -> None:
    rng = random.Random(17)
    key = issue_api_key(partner_name="TV", actor=TESTER)[1]
    port = free_port()
    endpoint, secret = webhook_endpoints.create_webhook(
        partner_name="TV", url=f"http://127.0.0.1:{port}/", kinds=sorted(ORDERED), actor=TESTER
    )
    (consumer,), (receiver,) = (fenced(guides.FOLDER / f"{guide}.md", "python") for guide in ("feed", "webhooks"))
    files = [tmp_path / f"store-{number}" for number in range(CONSUMERS + 1)]
    stop, enough = threading.Event(), threading.Event()

    def deliver() -> None:
        while not stop.is_set():
            webhook_delivery.Deliverer(workers=16).run(once=False, stop=stop.is_set)

    with process_server(threads=4) as server, beside(deliver, stop=stop.set):
        common = {"KEY": key, "WEBHOOK_SECRET": secret, "PORT": str(port), "PATH": ""}
        programs = {
            f"consumer-{number}": (
                consumer.replace(guides.EXAMPLE_URL, server.url),
                common | {"DATABASE_FILE": str(files[number])},
            )
            for number in range(CONSUMERS)
        } | {"receiver": (receiver, common | {"DATABASE_FILE": str(files[-1])})}
        with restarted(programs, tmp_path) as running:
            with beside(*(partial(sell, buyer.beside(f"user-{n}"), enough) for n in range(3)), stop=enough.set):
                kill_at_random(running, times=KILLS, rng=rng)
            for file in files[:-1]:
                await_orders(lambda file=file: by_feed(file))
            await_orders(lambda: by_webhook(files[-1]))
            # The receiver loses its store, and has all delivered again.
            files[-1].unlink()
            running[-1].kill()
            since = Event.objects.earliest("at").at
            webhook_control.replay(endpoint=endpoint, since=since, expected_changes=1, reason="lost its store", actor=TESTER)
            await_orders(lambda: by_webhook(files[-1]))
    feed.assign_positions()
    orders = CheckoutSession.objects.filter(status="ORDERED")
    assert sorted(order_no for _, order_no in by_feed(files[0])) == sorted(orders.values_list("order_no", flat=True))
    assert orders.filter(late=True).exists()
