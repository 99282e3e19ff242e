"""Two or three cells, each with a separate database of the server of the tests; the first is the database of the test, and sells."""

import inspect
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import psycopg
import pytest
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg import sql
from pytest_django import Settings

from baskets.domain.cells import replication

TABLES = ("product", "stock", "stockadjustment")


def url(name: str) -> str:
    settings = connection.settings_dict
    return f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{name}"


def aliases(number: int) -> list[str]:
    return [f"cell_{cell}" for cell in range(1, number + 1)]


def close(number: int = 3) -> None:
    """Close the connections of this thread to the cells."""
    for alias in aliases(number):
        if alias in connections.settings:
            connections[alias].close()


@contextmanager
def copies(number: int, blocker: Any) -> Iterator[list[str]]:
    """Copy the database of the tests.

    :returns: the names of the copies.
    """
    with blocker.unblock():
        own = connection.settings_dict["NAME"]
        names = [f"{own}_cell_{cell}" for cell in range(2, number + 1)]
        connection.close()
        with connection._nodb_cursor() as server:  # Django's test runner creates its databases so.
            for name in names:
                server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{own}"')
    yield names
    with blocker.unblock(), connection._nodb_cursor() as server:
        for name in names:
            server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@contextmanager
def other_databases_allowed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let a test connect to databases that Django's test case has not created."""
    allowed = inspect.getclosurevars(BaseDatabaseWrapper.ensure_connection).nonlocals["real_ensure_connection"]
    with monkeypatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "ensure_connection", allowed)
        yield


@contextmanager
def running(names: Sequence[str], settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Let the databases of these names be the cells, beside the one of the test, which the others equal in products and stock.

    The names of replication slots are those of the whole server: here they begin with the name of the first database, so that tests of
    another process, which has other databases, do not replace them.

    :returns: the URLs of all cells.
    """
    all_names = [connection.settings_dict["NAME"], *names]
    monkeypatch.setattr(replication, "slot_name", lambda cell: f"{all_names[0]}_cell_{cell}")
    for name in names:
        with psycopg.connect(url(all_names[0])) as first, psycopg.connect(url(name)) as other:
            # Without the trigger that keeps products.
            other.execute("SET LOCAL session_replication_role = replica")
            for table in reversed(TABLES):
                other.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(f"baskets_{table}")))
            other.execute("SET LOCAL session_replication_role = origin")
            for table in TABLES:
                source, target = first.cursor(), other.cursor()
                with source.copy(f"COPY baskets_{table} TO STDOUT") as rows, target.copy(f"COPY baskets_{table} FROM STDIN") as copied:
                    for row in rows:
                        copied.write(row)
            other.execute("SELECT setval('baskets_stockadjustment_id_seq', (SELECT greatest(max(id), 1) FROM baskets_stockadjustment))")
    settings.BASKETS_CELL_DATABASES = aliases(len(all_names))
    for alias, name in zip(settings.BASKETS_CELL_DATABASES, all_names, strict=True):
        connections.settings[alias] = deepcopy(connection.settings_dict) | {"NAME": name}
    with other_databases_allowed(monkeypatch):
        yield [url(name) for name in all_names]
        close(len(all_names))
    for alias in aliases(len(all_names)):
        del connections[alias], connections.settings[alias]


@contextmanager
def published_by(cell: int, table: str) -> Iterator[None]:
    """Let the database of the test refuse changes of a table, as if another cell published it."""
    (shared,) = (shared for shared in replication.SHARED if shared.name == table)
    names = {"guard": sql.Identifier(replication.PUBLISHER_CONSTRAINT), "table": sql.Identifier(table), "publisher": sql.Literal(str(cell))}
    with connection.cursor() as cursor:
        cursor.execute(sql.SQL(replication.GUARD_FUNCTION).format(guard=names["guard"]))
        cursor.execute(sql.SQL(replication.GUARD).format(**names, ignored=sql.Literal("{" + ",".join(shared.own) + "}")))
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(sql.SQL("DROP TRIGGER {guard} ON {table}").format(**names))


def end_replication(urls: Sequence[str]) -> None:
    """Remove everything that `replicate_catalog` has made, so that the databases can be dropped and used by other tests."""
    for address in reversed(urls):
        with psycopg.connect(address, autocommit=True) as client:
            found = client.execute(
                "SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()"
            ).fetchall()
            if found:
                client.execute(f"ALTER SUBSCRIPTION {replication.SUBSCRIPTION} DISABLE")
                client.execute(f"ALTER SUBSCRIPTION {replication.SUBSCRIPTION} SET (slot_name = NONE)")
                client.execute(f"DROP SUBSCRIPTION {replication.SUBSCRIPTION}")
            for shared in replication.SHARED:
                client.execute(f"DROP TRIGGER IF EXISTS {replication.PUBLISHER_CONSTRAINT} ON {shared.name}")
            client.execute("DROP FUNCTION IF EXISTS product_begins_without_pieces CASCADE")
            client.execute(f"DROP PUBLICATION IF EXISTS {replication.PUBLICATION}")
            slots = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = current_database()"
            while left := client.execute(slots).fetchall():
                for name, pid in left:
                    if pid is None:
                        client.execute("SELECT pg_drop_replication_slot(%s)", [name])
                    else:
                        client.execute("SELECT pg_terminate_backend(%s)", [pid])


def eventually(condition: Callable[[], bool], *, seconds: float = 180) -> float:
    """Wait until a condition holds.

    :returns: after how many seconds it did.
    """
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "not within the time"
        time.sleep(0.02)
    return time.monotonic() - begin
