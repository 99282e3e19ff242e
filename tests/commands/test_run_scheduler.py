"""`run_scheduler`: sweeps within seconds, one leader that is replaced when killed, and the work of a night once."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from baskets.db.statements import Statement
from baskets.domain import audit_log, runner
from baskets.domain.actors import Actor
from baskets.domain.maintenance import invariant_checker, schedule
from baskets.domain.support import assignments
from baskets.models import CheckoutSession, DeskEntry
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)

Process = Any  # The Popen of a command.
Start = Callable[..., Process]


@pytest.fixture
def shopper() -> User:
    ProductFactory(product_id="shirt", unsold=10)
    return User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))


@pytest.fixture
def scheduler(process: Start) -> Iterator[Start]:
    """Start schedulers that sweep every second; those that still run at the end are killed."""
    running = []

    def start(*arguments: str) -> Process:
        running.append(process("run_scheduler", "--sweep-seconds", "1", "--json", *arguments))
        return running[-1]

    yield start
    for one in running:
        if one.poll() is None:
            one.kill()
            print(one.communicate())  # noqa: T201 - shown where the test failed


def holders() -> int:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database AND datname = current_database()"
            " WHERE locktype = 'advisory' AND (classid, objid) = (%s, %s)",
            schedule.LOCK_KEY,
        )
        return int(cursor.fetchone()[0])


def lapse(user: User) -> None:
    user.place("shirt", 1)
    user.start()
    user.wait(hours=1)


def stopped(one: Process) -> tuple[Any, list[str]]:
    """Stop a scheduler: its result, and the names of its log events."""
    one.send_signal(signal.SIGTERM)
    out, err = one.communicate(timeout=60)
    assert one.returncode == 0, err
    return json.loads(out.splitlines()[-1]), re.findall(r"scheduler_\w+", err.decode())


def test_the_leader_sweeps_and_another_takes_over_when_it_is_killed(scheduler: Start, shopper: User) -> None:
    night = f"{datetime.now(UTC) - timedelta(hours=3):%H:%M}"  # Not now.
    first = scheduler("--night", night)
    assert eventually(lambda: holders() == 1)
    second = scheduler("--night", night)
    for _ in range(2):
        lapse(shopper)
        assert eventually(lambda: not CheckoutSession.objects.filter(status="ACTIVE").exists())
    assert holders() == 1
    first.kill()
    first.communicate()
    lapse(shopper)
    assert eventually(lambda: not CheckoutSession.objects.filter(status="ACTIVE").exists())
    result, events = stopped(second)
    assert result == {"checkouts_expired": 1, "baskets_expired": 0, "failed_commands": 0}
    assert events == ["scheduler_leads"]
    assert not DeskEntry.objects.filter(kind="checked").exists()
    assert invariant_checker.check() == []


def test_the_work_of_a_night_is_done_once(scheduler: Start, shopper: User) -> None:
    shopper.place("shirt", 1)
    one = scheduler("--night", f"{datetime.now(UTC):%H:%M}", "--older-than-days", "400")
    assert eventually(lambda: DeskEntry.objects.filter(kind="purged").exists())
    assert eventually(lambda: holders() == 1)
    time.sleep(3)  # Two more rounds.
    result, _ = stopped(one)
    assert result["failed_commands"] == 0
    entries = DeskEntry.objects.filter(kind__in=["checked", "purged"]).order_by("id")
    assert [(entry.kind, entry.actor) for entry in entries] == [("checked", "check_baskets"), ("purged", "purge_history")]
    assert entries[1].data["older_than_days"] == 400


@pytest.mark.parametrize(
    ("minutes_ago", "due"),
    [(0, True), (5, True), (59, True), (61, False), (180, False), (-2, False)],
)
def test_a_night_is_due_for_an_hour(minutes_ago: int, *, due: bool) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp() AT TIME ZONE 'UTC'")
        now = cursor.fetchone()[0]
    begins = now - timedelta(minutes=minutes_ago)
    begun = schedule.night_due(begins.time())
    assert (begun is not None) == due
    if begun:
        assert begun.replace(tzinfo=None) == begins
        runner.run(assignments.record_check, checked=1, found=[], actor=Actor.system("cron"))
        assert schedule.night_due(begins.time()) == begun  # Nothing was purged yet.
        runner.run(audit_log.record, kind=DeskEntry.Kind.PURGED, about="basket", data={}, actor=Actor.system("purge_history"))
        assert schedule.night_due(begins.time()) is None


@pytest.mark.parametrize(
    ("begins", "due"),
    [
        ("2028-02-29 23:05", False),
        ("2028-02-29 23:20", True),
        ("2028-02-29 23:59", True),
        ("2028-03-01 00:00", True),
        ("2028-03-01 00:10", True),
        ("2028-03-01 00:11", False),
    ],
)
def test_a_night_may_last_beyond_midnight(begins: str, *, due: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """At ten past midnight, on the first of a month."""
    text = schedule.NIGHT.sql.replace("statement_timestamp()", "timestamptz '2028-03-01 00:10Z'")
    monkeypatch.setattr(schedule, "NIGHT", Statement("night_at_midnight", text))
    begun = schedule.night_due(datetime.fromisoformat(begins).time())
    assert begun == (datetime.fromisoformat(f"{begins}Z") if due else None)


@pytest.mark.parametrize("text", ["3:17", "24:00", "03:60", "\u0660\u0663:17", "now", ""])
def test_an_impossible_time_is_refused(run: Run, text: str) -> None:
    ended = run("run_scheduler", "--night", text)
    assert (ended.code, ended.out) == (2, "")
