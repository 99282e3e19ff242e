"""The process server as it runs in production, on the test database, with a shop that no input may touch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.apps import apps
from django.db import connection

from basket_project.launcher.cluster import free_port
from baskets.domain.access import api_keys
from baskets.domain.maintenance import invariant_checker
from baskets.models import RefusalActivity, Throttle
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.fuzz.wire import exchange, request
from tests.secrecy import secrets_in

PROJECT = Path(__file__).parents[2]
START_SECONDS = 180


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the tests of this folder in one process: there is one server for all of them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("hostile"))


@dataclass(frozen=True, kw_only=True)
class Service:
    """A running service: where it listens, how to call it, and what it has logged."""

    port: int
    key: str
    app_key: str
    order_no: str
    log: Path

    def lines(self) -> list[Any]:
        """The log so far, line by line; each is JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def line_of(self, request_id: str) -> Any:
        """The log's line of one request."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines():
                if f'"{request_id}"' in line and (found := json.loads(line))["event"] == "request":
                    return found
            time.sleep(0.02)
        pytest.fail(f"no line of request {request_id} was logged")


def database_url() -> str:
    """The address of the test database."""
    settings = connection.settings_dict
    user, password = quote(settings["USER"], safe=""), quote(settings["PASSWORD"], safe="")
    return f"postgres://{user}:{password}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"


@pytest.fixture(scope="package")
def committed_rows(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let the tests of this folder see and make rows that the server sees as well; leave no row behind."""
    with django_db_blocker.unblock():
        try:
            yield
        finally:
            tables = [model._meta.db_table for model in apps.get_app_config("baskets").get_models()]
            with connection.cursor() as cursor:
                cursor.execute(f"TRUNCATE {', '.join(tables)} CASCADE")


@pytest.fixture(scope="package")
def service(committed_rows: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, with a user `ada` who has an active checkout."""
    partner = PartnerFactory(name="Hostile")
    ProductFactory(product_id="p1", unsold=5)
    ProductFactory(product_id="p2")
    shopper = User(Owner(partner_id=partner.pk, user_id="ada"))
    shopper.place("p1", 2)
    order_no = shopper.start().session.order_no
    shopper.place("p2", 1)
    _, key = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)
    _, app_key = api_keys.issue_api_key(partner_name=partner.name, kind="client", actor=TESTER)
    log = tmp_path_factory.mktemp("hostile") / "log"
    # Made-up keys come faster than strangers may guess; other tests cover the limit on guesses.
    with serving(log, BASKETS_FAILURES_PER_MINUTE="0") as port:
        yield Service(port=port, key=key, app_key=app_key, order_no=order_no, log=log)


@contextlib.contextmanager
def serving(log: Path, **environment: str) -> Iterator[int]:
    """Run the service on the test database, and yield its port; at the end no secret is in its log and every rule holds."""
    port = free_port()
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "basket_project.server", "--port", str(port), "--workers", "1", "--threads", "4"],
            cwd=PROJECT,
            env={**os.environ, "DATABASE_URL": database_url(), "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_ready(server, port, log)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(START_SECONDS)
        assert secrets_in(log.read_text()) == set()
        assert invariant_checker.check() == []


def wait_until_ready(server: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until the service answers."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(OSError):
            if exchange(port, request("GET", "/readyz")).status == 200:
                return
        time.sleep(0.1)
    pytest.fail(f"the server does not answer: {log.read_text()}")


@pytest.fixture
def stored_rows(service: Service, db: None) -> Callable[[], dict[str, list[Any]]]:
    """Read every row that is stored, as the server's other clients see it. Counts of calls are left out."""

    def read() -> dict[str, list[Any]]:
        stored = {}
        with connection.cursor() as cursor:
            for model in set(apps.get_app_config("baskets").get_models()) - {RefusalActivity, Throttle}:
                table = model._meta.db_table
                cursor.execute(f"SELECT * FROM {table} AS row ORDER BY row::text")  # noqa: S608 (the name is the model's)
                stored[table] = cursor.fetchall()
        return stored

    return read
