"""`migrate` runs again after a failure, wherever it was."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from uuid import uuid4

import psycopg
import pytest
from django.core.management.commands import migrate as django_migrate
from django.db import OperationalError, connection
from django.db.migrations.exceptions import IrreversibleError
from django.db.migrations.executor import MigrationExecutor
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, UndefinedTable

from baskets.management.commands import migrate
from baskets.models import MovingBatch
from tests.project.test_tree import PROJECT
from tests.waiting import eventually

NAME = "half_migrated"


@pytest.fixture
def url(db: None) -> Iterator[str]:
    """A new database beside that of the tests."""
    settings = connection.settings_dict
    server = f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}"
    name = f"{settings['NAME']}_{NAME}"
    with closing(psycopg.connect(f"{server}/{settings['NAME']}", autocommit=True)) as maintenance:
        maintenance.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload] # The name is ours.
        try:
            yield f"{server}/{name}"
        finally:
            maintenance.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def manage(url: str, *arguments: str) -> "subprocess.Popen[str]":
    variables = os.environ | {"DATABASE_URL": url, "DJANGO_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "basket_project.settings"}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.Popen(command, cwd=PROJECT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(url: str, *arguments: str) -> tuple[int, str]:
    """Run a command to its end, and return its exit code and its standard error."""
    process = manage(url, *arguments)
    _, errors = process.communicate(timeout=300)
    return process.returncode, errors


def applied(database: "psycopg.Connection[tuple[int]]") -> int:
    try:
        row = database.execute("SELECT count(*) FROM django_migrations WHERE app = 'baskets'").fetchone()
    except UndefinedTable:
        return 0
    return row[0] if row else 0


def test_a_migration_that_was_killed_half_way_runs_again(url: str) -> None:
    first = manage(url, "migrate")
    with closing(psycopg.connect(url, autocommit=True)) as database:
        while applied(database) == 0:
            assert first.poll() is None, first.communicate()
            time.sleep(0.02)
        first.kill()
        first.communicate()
        while database.execute("SELECT FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()").rowcount:
            time.sleep(0.02)
        assert 0 < applied(database) < 14, "the migration was killed before that of the index below"
        # What a concurrent build that failed leaves behind.
        database.execute("CREATE INDEX events_of_session ON baskets_event (session_id)")
        database.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'events_of_session'::regclass")
        code, errors = run(url, "check", "--database", "default")
        assert code == 1
        assert "baskets.E082" in errors
        assert "baskets.W016" in errors

        code, errors = run(url, "migrate")
        assert code == 0, errors
        assert not database.execute("SELECT FROM pg_index WHERE NOT indisvalid").rowcount

        # No migration is left that adds this one.
        database.execute("ALTER TABLE baskets_product DROP CONSTRAINT product_id_is_not_empty")
        code, errors = run(url, "migrate")
        assert code == 1
        assert errors.count("baskets.E082") == 1


@pytest.mark.parametrize(
    ("causes", "attempts", "fails"),
    [
        ([DeadlockDetected("deadlock"), LockNotAvailable("timeout")], 3, False),
        ([DeadlockDetected("deadlock")] * 3, 3, True),
        ([QueryCanceled("an operator")], 1, True),
    ],
)
def test_it_tries_again_where_a_lock_was_not_available(
    causes: list[psycopg.Error], attempts: int, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    remaining, made = list(causes), []

    def handle(*_: object, **__: object) -> None:
        made.append(1)
        if remaining:
            cause = remaining.pop(0)
            raise OperationalError(str(cause)) from cause

    monkeypatch.setattr(django_migrate.Command, "handle", handle)
    monkeypatch.setattr(migrate, "PAUSES_SECONDS", (0, 0))
    written = io.StringIO()
    command = migrate.Command(stderr=written)
    if fails:
        with pytest.raises(OperationalError):
            command._handle_with_retries(lambda: None)
    else:
        command._handle_with_retries(lambda: None)
    assert len(made) == attempts
    assert written.getvalue().count("Trying again") == attempts - 1


def test_no_migration_builds_an_index_again_that_stands_in_for_dropped_ones(transactional_db: None) -> None:
    """A repeat builds each index of its migration again. What the index replaces must be there until then: a later migration drops it."""
    loader = MigrationExecutor(connection).loader
    found = {}
    for (app, name), migration in loader.disk_migrations.items():
        if app == "baskets":
            sql = "\n".join(loader.collect_sql([(migration, False)]))
            built, dropped = (
                set(re.findall(rf'{verb} INDEX CONCURRENTLY (?:IF EXISTS )?"?(\w+)', sql)) for verb in ("(?:UNIQUE|CREATE)", "DROP")
            )
            if built and dropped - built:
                found[name] = dropped - built
    # A repeat of this one only makes a sweep slow.
    assert found.keys() == {"0046_order_of_expiry"}


@pytest.fixture
def vacuumed(transactional_db: None) -> Iterator[str]:
    """A table that autovacuum works on for half a minute, because it pauses after each page."""
    name = "vacuumed"
    vacuum = "autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_threshold = 1, fillfactor = 10"
    with connection.cursor() as cursor:
        cursor.execute("ALTER SYSTEM SET autovacuum_naptime = 1")
        cursor.execute("SELECT pg_reload_conf()")
        cursor.execute(f"CREATE TABLE {name} WITH ({vacuum}) AS SELECT n FROM generate_series(1, 6000) n")  # noqa: S608 (constants)
        cursor.execute(f"DELETE FROM {name} WHERE n % 2 = 0; SELECT pg_stat_force_next_flush()")  # noqa: S608 (the name is ours)
    try:
        yield name
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {name}")
            cursor.execute("ALTER SYSTEM RESET autovacuum_naptime")
            cursor.execute("SELECT pg_reload_conf()")


def test_it_gets_the_lock_of_a_table_that_autovacuum_works_on(vacuumed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def is_vacuumed() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT FROM pg_stat_progress_vacuum WHERE relid = %s::regclass", [vacuumed])
            return bool(cursor.rowcount)

    def handle(*_: object, **__: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {vacuumed} ADD more int")

    monkeypatch.setattr(django_migrate.Command, "handle", handle)
    monkeypatch.setattr(migrate, "PAUSES_SECONDS", (0, 0))
    written = io.StringIO()
    assert eventually(is_vacuumed)
    migrate.Command(stderr=written).handle(database="default")
    assert written.getvalue().count("Trying again") == 1, "it waited longer, where only a vacuum was in the way"
    assert connection.settings_dict["OPTIONS"]["options"].count("lock_timeout") == 1


@pytest.mark.django_db
def test_way_back_waits_for_baskets_that_have_left_for_another_cell() -> None:
    """They are in no other table."""
    executor, name = MigrationExecutor(connection), ("baskets", "0051_moving_batches")
    before = executor.loader.project_state(name, at_end=False)
    MovingBatch.objects.create(pk=uuid4(), cell=2, baskets="{}")
    with pytest.raises(IrreversibleError, match="move_slot"):
        executor.unapply_migration(before, executor.loader.get_migration(*name))
    assert MovingBatch.objects.count() == 1
