"""Fixtures that every part of the tests shares."""

import gc
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from django.apps import apps
from django.db import connection, transaction
from django.test import TransactionTestCase
from hypothesis import HealthCheck
from hypothesis import settings as profile
from pytest_django import Settings
from whitenoise.middleware import WhiteNoiseMiddleware

from basket_project.settings import DATABASE_SESSION
from baskets.domain.access import rate_limits
from baskets.domain.actors import Actor, ActorKind
from baskets.models import DeskEntry, Partner, RefusalActivity, StaffSession, Throttle
from baskets.models.basket_snapshot import Owner
from tests.event_shapes import recorded_problems
from tests.factories import PartnerFactory
from tests.secrecy import remember_users, secrets_in

PROJECT = Path(__file__).parents[1]
APP = Actor(kind=ActorKind.KEY, name="testkey", request_id="request-1", tracking={"session_id": "s-1"})


# --- Secrets ----------------------------------------------------------------------


def pytest_configure() -> None:
    remember_users()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test that left a key, a token or a user id in the log or in its output."""
    report = yield
    for title, content in report.sections:
        if report.passed and (found := secrets_in(content)):
            report.outcome = "failed"
            report.longrepr = f"{title} of {item.nodeid} has in clear: {sorted(found)}"
    return report


# --- Made-up examples ---------------------------------------------------------------

# The same in each run, and however long a busy machine takes for one.
profile.register_profile("tests", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
profile.load_profile("tests")

# --- Coverage ---------------------------------------------------------------------

# Their cases are mostly calls through Django and DRF, which take nearly twice as long while coverage is measured.
MEASURED_IN_FIRST_CASES = ("tests/admin/", "tests/api/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure coverage in the first case of each test of a call: its other cases hardly reach more, unless the test is marked so."""
    seen = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        if test in seen and test.startswith(MEASURED_IN_FIRST_CASES) and not item.get_closest_marker("measured"):
            item.add_marker(pytest.mark.no_cover)
        seen.add(test)


# --- Events -----------------------------------------------------------------------

# They record no event by domain calls alone, or break events on purpose.
BROKEN_ON_PURPOSE = ("tests/domain/maintenance/", "tests/models/", "tests/scale/", "tests/bench/")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, None, None]:
    """Fail a test whose events have another shape than partners are promised. Reads them before fixtures clear the database."""
    is_checked = "db" in getattr(item, "fixturenames", ()) and not item.nodeid.startswith(BROKEN_ON_PURPOSE)
    problems = recorded_problems() if is_checked else []
    yield
    if problems:
        pytest.fail("\n".join(problems[:5]))


# --- The log ----------------------------------------------------------------------


class Log:
    """What is written to the log during a test."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._written: list[str] = []
        self._libraries = caplog

    def __call__(self, _: Any, __: str, line: str) -> str:
        """Keep a line that the service is about to write."""
        self._written.append(line)
        return line

    def lines(self, event: str = "request") -> list[Any]:
        """The service's own lines of one event, as the objects that they are."""
        return [line for line in map(json.loads, self._written) if line["event"] == event]

    @property
    def text(self) -> str:
        """Everything, with the lines of the libraries."""
        return "\n".join([*self._written, self._libraries.text])


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[Log]:
    """Yield what this test writes to the log."""
    caplog.set_level("INFO")
    log = Log(caplog)
    # Loggers keep the list itself, so what is put into it holds for those that are there already.
    processors = structlog.get_config()["processors"]
    processors.insert(-1, log)
    yield log
    processors.remove(log)


# --- The processes of the tests ---------------------------------------------------

IDLE_LIMIT = f"idle_in_transaction_session_timeout={DATABASE_SESSION['idle_in_transaction_session_timeout']}"
PATIENT_LIMIT = "idle_in_transaction_session_timeout=120s"


# --- The long programme -----------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--seed", type=int, default=1, help="seed of every random choice in the long programme")
    parser.addoption("--minutes", type=float, default=0.1, help="how long an open-ended test runs")
    parser.addoption("--figures", type=Path, help="file to write to what was done, in numbers")


@dataclass(frozen=True, kw_only=True)
class LongRun:
    """The options of a run of the long programme.

    :param seconds: how long an open-ended test runs.
    :param rng: gives the same numbers for the same seed and test.
    """

    seed: int
    seconds: float
    rng: random.Random
    figures: Path | None

    def record(self, **numbers: int) -> None:
        """Add numbers to the figures of the run, each under the word it is given."""
        if self.figures:
            with self.figures.open("a") as file:
                file.write(json.dumps({word.replace("_", " "): number for word, number in numbers.items()}) + "\n")


@pytest.fixture
def long_run(request: pytest.FixtureRequest) -> LongRun:
    """The seed, the time and the figures of the run."""
    options = request.config.option
    rng = random.Random(f"{options.seed} {request.node.name}")
    return LongRun(seed=options.seed, seconds=options.minutes * 60, rng=rng, figures=options.figures)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Count the tests themselves among the figures. Only the process that reports comes here."""
    counted = {word: len(terminalreporter.stats.get(word, [])) for word in ("passed", "failed", "error", "skipped")}
    if config.option.figures and not hasattr(config, "workerinput"):
        with config.option.figures.open("a") as file:
            file.write(json.dumps({f"tests {word}": number for word, number in counted.items() if number or word == "passed"}) + "\n")


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of each search for garbage, which would go through all of it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """Let transactions be idle for longer than in production: a test keeps one open while it renders pages on a busy machine."""
    options = connection.settings_dict["OPTIONS"]
    options["options"] = options["options"].replace(IDLE_LIMIT, PATIENT_LIMIT)


@pytest.fixture
def production_limits(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let connections that are made from now on have the limits of production."""
    options = connection.settings_dict["OPTIONS"]
    monkeypatch.setitem(options, "options", options["options"].replace(PATIENT_LIMIT, IDLE_LIMIT))


@pytest.fixture(autouse=True)
def fresh_rate_limits() -> None:
    """Forget the counts that this process holds of earlier tests."""
    rate_limits.clear_local_windows()


@pytest.fixture(autouse=True)
def cheap_passwords(settings: Settings) -> None:
    """Hash passwords in microseconds: no test is about the number of rounds."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


# Migrations fill them, and no test changes them.
KEPT_TABLES = {"auth_group", "auth_group_permissions", "auth_permission", "django_content_type"}


def empty_tables() -> None:
    """Delete what a test has committed. Waits for open transactions that write."""
    tables = sorted({*connection.introspection.django_table_names(only_existing=True, include_views=False)} - KEPT_TABLES)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE")
        cursor.execute(" UNION ALL ".join(f"(SELECT '{table}' FROM {table} LIMIT 1)" for table in tables))  # noqa: S608 (Django's names)
        filled = [table for (table,) in cursor.fetchall()]
        # Without triggers: one of them keeps products, and none of a key can fail.
        cursor.execute("SET LOCAL session_replication_role = replica")
        for table in filled:
            cursor.execute(f"DELETE FROM {table}")  # noqa: S608 (Django's names)


@pytest.fixture(scope="session", autouse=True)
def only_filled_tables_emptied() -> Iterator[None]:
    """After a test that commits, empty the tables with rows. Django truncates all and creates all permissions, ten times as slow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _: empty_tables())
        yield


@pytest.fixture(scope="session", autouse=True)
def static_files_scanned_once() -> Iterator[None]:
    """Scan the static files once in this process. Each `Client` loads the middleware, and WhiteNoise then reads every file's state."""
    scan = WhiteNoiseMiddleware.add_files_from_finders
    found: dict[str, Any] = {}

    def add(middleware: WhiteNoiseMiddleware) -> None:
        if not found:
            scan(middleware)
            found.update(middleware.files)
        middleware.files = found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", add)
        yield


# --- Who calls --------------------------------------------------------------------


@pytest.fixture
def partner(db: None) -> Partner:
    """A partner with default settings."""
    return PartnerFactory()


@pytest.fixture
def owner(partner: Partner) -> Owner:
    """A user of the partner, without a basket."""
    return Owner(partner_id=partner.pk, user_id="anna")


@pytest.fixture
def process(transactional_db: None) -> Callable[..., "subprocess.Popen[bytes]"]:
    """Return a function that starts a command in a separate process, on the database of the test."""
    settings = connection.settings_dict
    address = f"{settings['HOST']}:{settings['PORT']}/{settings['NAME']}"
    variables = os.environ | {
        "DATABASE_URL": f"postgres://{settings['USER']}:{settings['PASSWORD']}@{address}",
        "DJANGO_DEBUG": "1",
        "DJANGO_SETTINGS_MODULE": "basket_project.settings",
    }

    def start(*arguments: str, **options: Any) -> "subprocess.Popen[bytes]":
        environment = variables | options.pop("env", {})
        return subprocess.Popen(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env=environment,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
        )

    return start


@pytest.fixture
def stored_rows(db: None) -> Callable[[], dict[str, list[Any]]]:
    """Return a function that reads every row of the service, to show that a refused call changed none.

    Counts of calls, staff sessions and entries about refused actions are left out.
    """

    def read() -> dict[str, list[Any]]:
        stored = {}
        with connection.cursor() as cursor:
            for model in set(apps.get_app_config("baskets").get_models()) - {RefusalActivity, Throttle, StaffSession}:
                table = model._meta.db_table
                rows = "WHERE kind <> 'refused'" if model is DeskEntry else ""
                cursor.execute(f"SELECT * FROM {table} AS row {rows} ORDER BY row::text")  # noqa: S608 (the name is the model's)
                stored[table] = cursor.fetchall()
        return stored

    return read
