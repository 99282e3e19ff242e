"""System checks of the live database: `manage.py check --database default`. The ids are stable. Knows nothing of baskets.

They compare what the server reports with what this release needs. A warning names what will be slow, lost or insecure; an error names what
makes the service do wrong.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, register, run_checks
from django.core.checks import Warning as Caution
from django.db import DEFAULT_DB_ALIAS, DatabaseError, InterfaceError, connections
from django.db.backends.utils import CursorWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Index

from baskets.db.constraints import CONSTRAINTS_OF_TABLES
from baskets.db.pooler import pooler_problem

log = structlog.get_logger("baskets.db")

MAX_CLOCK_SKEW_SECONDS = 2
# Smaller tables are read in no time, whatever the plan.
MIN_CHANGED_ROWS = 50_000

_is_migrating: ContextVar[bool] = ContextVar("is_migrating", default=False)

# Settings of the server: the value that is needed, and what another one costs.
DURABILITY = {
    "fsync": ("on", "a crash of the server corrupts the data"),
    "full_page_writes": ("on", "a crash of the server corrupts the data"),
    "autovacuum": ("on", "tables grow without limit, and plans become slow"),
}
NOT_DURABLE = "off"
# The oldest series that still gets fixes. Source: https://www.postgresql.org/support/versioning/
OLDEST_SUPPORTED_SERIES = 15

# Names of all indexes and constraints that the connection's search path finds.
VALID_NAMES = f"""
SELECT relname FROM pg_class JOIN pg_index ON indexrelid = pg_class.oid WHERE pg_table_is_visible(indrelid)
UNION SELECT conname FROM ({CONSTRAINTS_OF_TABLES}) AS constraints WHERE pg_table_is_visible(conrelid)"""  # noqa: S608 (a constant of ours)
LEADING_COLUMNS = """
SELECT relname, attname FROM pg_index JOIN pg_class ON pg_class.oid = indrelid
JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
WHERE indisvalid AND indpred IS NULL AND pg_table_is_visible(indrelid)"""
INVALID_INDEXES = """
SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid AND pg_table_is_visible(indrelid) ORDER BY 1"""
# Without statistics `reltuples` is -1. The counter of changes is lost in a crash, `reltuples` is not.
OUTDATED_STATISTICS = """
SELECT relid::regclass::text FROM pg_stat_user_tables JOIN pg_class ON pg_class.oid = relid
WHERE pg_table_is_visible(relid) AND n_mod_since_analyze > greatest(%s, reltuples / 2) ORDER BY 1"""


@register(Tags.database)
def check_database(*, databases: Sequence[str] | None = None, **_: Any) -> list[CheckMessage]:
    """Check the databases that the caller names: Django passes none unless `--database` is given."""
    return [message for alias in databases or () for message in _messages_of(alias)]


@contextmanager
def about_to_migrate() -> Iterator[None]:
    """Report no index and no constraint as missing while migrations are pending: they add it, so they must be free to run."""
    token = _is_migrating.set(True)
    try:
        yield
    finally:
        _is_migrating.reset(token)


def log_findings() -> None:
    """Log what is wrong with the database, one line each. Runs in a separate thread at the start of a worker."""
    try:
        for message in run_checks(tags=[Tags.database], databases=[DEFAULT_DB_ALIAS]):
            log.warning("database_finding", id=message.id, text=message.msg, hint=message.hint)
    finally:
        connections.close_all()


def _messages_of(alias: str) -> list[CheckMessage]:
    try:
        with connections[alias].cursor() as cursor:
            return [message for check in CHECKS for message in check(cursor)]
    except (DatabaseError, InterfaceError) as error:
        return [Error(f"The database cannot be checked: {str(error).strip()}", id="baskets.E080")]


def check_session_settings(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Compare the live settings of a session with those that the service asks for: a pooler may drop them without a word."""
    for name, option in settings.DATABASE_SESSION.items():
        wanted, live = option.replace("\\", ""), _setting(cursor, name)
        if live == wanted:
            continue
        text = f"{name} is {live}, not {wanted}: the settings of DATABASE_URL are not in force."
        hint = f"Behind a pooler, set it for the role: ALTER ROLE ... SET {name} = '{wanted}'."
        if name == "default_transaction_isolation":
            yield Error(text, hint=hint, id="baskets.E081")
        else:
            yield Caution(text, hint=hint, id="baskets.W010")


def check_pooler(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Report a pooler that loses prepared statements; the service does not start behind it."""
    if problem := pooler_problem(cursor.db):
        yield Error(problem, hint="A direct connection to PostgreSQL works, too.", id="baskets.E083")


def check_durability(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Report settings of the server that lose acknowledged orders, and a server that does not accept writes."""
    for name, (wanted, effect) in DURABILITY.items():
        if (live := _setting(cursor, name)) != wanted:
            yield Caution(f"{name} is {live}: {effect}.", hint=f"Set {name} = {wanted} in postgresql.conf.", id="baskets.W011")
    if _setting(cursor, "synchronous_commit") == NOT_DURABLE:
        yield Caution(
            "synchronous_commit is off: a crash of the server loses orders that were acknowledged.",
            hint="Set synchronous_commit = on for the role of the service.",
            id="baskets.W011",
        )
    if _setting(cursor, "transaction_read_only") == "on":
        yield Caution(
            "The server accepts no writes: it is a standby, or set to read only.",
            hint="Name all hosts in DATABASE_URL, with target_session_attrs=read-write.",
            id="baskets.W012",
        )


def check_server_version(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Report a series that gets no fixes."""
    series = int(_setting(cursor, "server_version_num")) // 10_000
    if series < OLDEST_SUPPORTED_SERIES:
        yield Caution(f"PostgreSQL {series} gets no fixes any more.", hint="Upgrade to a supported series.", id="baskets.W013")


def check_clock(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Compare this machine's clock with that of the database. The one place that reads both, because their difference is the question."""
    before = time.time()
    cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
    (database,) = cursor.fetchone()
    after = time.time()
    skew = max(before - database, database - after)
    if skew > MAX_CLOCK_SKEW_SECONDS:
        yield Caution(
            f"The clocks of this machine and of the database are {skew:.0f} s apart: tokens may be refused, or accepted too long.",
            hint="Synchronize both with NTP.",
            id="baskets.W014",
        )


def check_indexes(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Report indexes that a failed build left invalid."""
    for (name,) in _rows(cursor, INVALID_INDEXES):
        yield Caution(f"The index {name} is invalid and is not used.", hint=f"REINDEX INDEX CONCURRENTLY {name};", id="baskets.W016")


def check_schema(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Report indexes and constraints of the models that the database does not have. See `about_to_migrate`."""
    if _is_migrating.get() and _has_pending_migrations(cursor):
        return
    names = {name for (name,) in _rows(cursor, VALID_NAMES)}
    leading = set(_rows(cursor, LEADING_COLUMNS))
    tables = set(connections[cursor.db.alias].introspection.table_names(cursor))
    for model in apps.get_models():
        meta = model._meta  # noqa: SLF001 (Django documents it)
        table = meta.db_table
        if not meta.managed or meta.proxy or table not in tables:  # `migrate` also checks an empty database.
            continue
        for wanted in (one for one in [*meta.indexes, *meta.constraints] if one.name not in names):
            if isinstance(wanted, Index):
                text = f"The index {wanted.name} of {table} is missing: calls scan the table."
                yield Caution(text, hint=REBUILD, id="baskets.W015")
            else:
                text = f"The constraint {wanted.name} of {table} is missing: it enforces a rule."
                yield Error(text, hint=REBUILD, id="baskets.E082")
        for field in meta.local_concrete_fields:
            if (getattr(field, "db_index", False) or field.unique) and (table, field.column) not in leading:
                text = f"No index begins with {table}.{field.column}: calls scan the table."
                yield Caution(text, hint=REBUILD, id="baskets.W015")


def check_statistics(cursor: CursorWrapper) -> Iterator[CheckMessage]:
    """Report large tables whose statistics are outdated, for example after a restore: the planner then chooses slow plans."""
    for (table,) in _rows(cursor, OUTDATED_STATISTICS, [MIN_CHANGED_ROWS]):
        yield Caution(f"The statistics of {table} are outdated: plans may be slow.", hint=f"ANALYZE {table};", id="baskets.W017")


CHECKS = (
    check_session_settings,
    check_pooler,
    check_durability,
    check_server_version,
    check_clock,
    check_indexes,
    check_schema,
    check_statistics,
)
REBUILD = "Run manage.py migrate; where all migrations are applied, create it again as `manage.py sqlmigrate` shows it."


def _has_pending_migrations(cursor: CursorWrapper) -> bool:
    executor = MigrationExecutor(connections[cursor.db.alias])
    return bool(executor.migration_plan(executor.loader.graph.leaf_nodes()))


def _setting(cursor: CursorWrapper, name: str) -> str:
    cursor.execute("SELECT current_setting(%s)", [name])
    return str(cursor.fetchone()[0])


def _rows(cursor: CursorWrapper, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    cursor.execute(sql, parameters)
    return list(cursor.fetchall())
