"""Carries the catalog and the access of one cell to all others, by PostgreSQL's logical replication. Stock is never among it.

Note [What all cells share]
One cell publishes; each other cell subscribes and refuses changes of these tables, by a trigger that replication itself does not fire.
Columns that every cell writes for itself are not published. A product that arrives begins with no pieces, because a product without a
stock row would be unlimited: so no cell sells it before it has its share. While replication lags, products are late and nothing is wrong.
Source: PostgreSQL, "Logical Replication"; `baskets/docs/adr/0060-one-publisher-for-all-cells.md`.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import IntegrityError, connections, transaction
from django.db.models import Model
from psycopg import sql
from psycopg.conninfo import make_conninfo

from baskets.db.limits import client_waits
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.cells import stock_moves
from baskets.domain.errors import PUBLISHER_CONSTRAINT, Refusal
from baskets.domain.stock import sandbox_catalog
from baskets.models import ApiKey, DeskEntry, Partner, Product, SecondFactor, SigningKey, TokenIssuer

PUBLICATION = "baskets_shared"
SUBSCRIPTION = "baskets_shared"
# How long to wait for the end of the use of a slot, and for the transactions that are open when one is created.
SLOT_SECONDS = 60
CONNECTION_FIELDS = ("host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey")


@dataclass(frozen=True, kw_only=True)
class SharedTable:
    """One table that all cells share.

    :param own: columns that each cell writes for itself; they are not published.
    :param touched: published columns that each cell may also write, such as the last code of an authenticator app.
    """

    model: type[Model]
    own: Sequence[str] = ()
    touched: Sequence[str] = ()

    @property
    def name(self) -> str:
        """The name of the table."""
        return self.model._meta.db_table  # noqa: SLF001 (Django documents `_meta`)

    @property
    def key(self) -> str:
        """The column of its primary key."""
        return str(self.model._meta.pk.column)  # noqa: SLF001 (Django documents `_meta`)

    @property
    def columns(self) -> list[str]:
        """The published columns, in the order of the model."""
        return [str(field.column) for field in self.model._meta.local_concrete_fields if field.column not in self.own]  # noqa: SLF001 (as above)


PRODUCTS = SharedTable(model=Product)
# A table comes after those that it refers to.
SHARED = (
    PRODUCTS,
    SharedTable(model=Partner),
    SharedTable(model=ApiKey),
    SharedTable(model=TokenIssuer, own=("fetched_keys", "fetched_at", "fetch_problem", "fetch_lease", "next_fetch_at")),
    SharedTable(model=SigningKey),
    SharedTable(model=ContentType),
    SharedTable(model=Permission),
    SharedTable(model=Group),
    SharedTable(model=Group.permissions.through),
    SharedTable(model=User, own=("last_login",)),
    SharedTable(model=User.groups.through),
    SharedTable(model=User.user_permissions.through),
    SharedTable(model=SecondFactor, touched=("last_timecode",)),
)

GUARD_FUNCTION = """
CREATE OR REPLACE FUNCTION {guard}() RETURNS trigger LANGUAGE plpgsql AS $guard$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(OLD) - TG_ARGV[1]::text[] = to_jsonb(NEW) - TG_ARGV[1]::text[] THEN
        RETURN NULL;
    END IF;
    RAISE check_violation USING CONSTRAINT = TG_NAME, DETAIL = TG_ARGV[0],
        MESSAGE = 'cell ' || TG_ARGV[0] || ' publishes ' || TG_TABLE_NAME || ' to this cell: make the change there';
END
$guard$
"""
GUARD = """
CREATE OR REPLACE TRIGGER {guard} AFTER INSERT OR UPDATE OR DELETE ON {table}
FOR EACH ROW EXECUTE FUNCTION {guard}({publisher}, {ignored})
"""
# `epoch` is before the moment of every report, so that a report of any moment counts.
BEGIN_WITHOUT_PIECES = """
CREATE OR REPLACE FUNCTION product_begins_without_pieces() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $begin$
BEGIN
    INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported, reported_as_of)
    VALUES (NEW.product_id, true, 0, 0, 0, 'epoch') ON CONFLICT (product_id) DO NOTHING;
    RETURN NULL;
END
$begin$;
CREATE OR REPLACE TRIGGER product_begins_without_pieces AFTER INSERT ON baskets_product
FOR EACH ROW WHEN (NEW.product_id <> ALL ({unlimited})) EXECUTE FUNCTION product_begins_without_pieces();
ALTER TABLE baskets_product ENABLE ALWAYS TRIGGER product_begins_without_pieces
"""
# Products that this statement finds are new in a subscriber that joins; those that the publisher does not limit are unlimited here, too.
LIMIT_NEW_PRODUCTS = """
INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported, reported_as_of)
SELECT product_id, true, 0, 0, 0, 'epoch' FROM unnest(%s::text[]) AS limited (product_id)
WHERE product_id NOT IN (SELECT product_id FROM known_product) ON CONFLICT (product_id) DO NOTHING
"""
CREATE_SUBSCRIPTION = """
CREATE SUBSCRIPTION {} CONNECTION {} PUBLICATION {} WITH (create_slot = false, slot_name = {}, copy_data = false)
"""
DELETE_OTHER_ROWS = """
DELETE FROM {table} t
WHERE NOT EXISTS (SELECT FROM {staged} s WHERE s.{key} = t.{key} AND ({of_staged}) IS NOT DISTINCT FROM ({of_table}))
"""
FIRST_OWN_ROW = "SELECT {key} FROM {table} t WHERE NOT EXISTS (SELECT FROM {staged} s WHERE s.{key} = t.{key}) ORDER BY 1 LIMIT 1"
INSERT_MISSING_ROWS = """
INSERT INTO {table} ({columns}) SELECT {columns} FROM {staged} s WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{key} = s.{key})
"""


class ReplicationRefused(Refusal):
    """The databases do not permit the replication; the cell keeps what it had."""

    reason = "replication_refused"
    message = "The cells cannot share their catalog."


def find_publisher(cells: Sequence[int]) -> int | None:
    """Return the cell that publishes to others; None if each cell has its separate catalog."""
    for cell in cells:
        if _rows(cell, "SELECT FROM pg_publication WHERE pubname = %s", PUBLICATION):
            return cell
    return None


def slot_name(cell: int) -> str:
    """Return the name of the replication slot that the publisher keeps for a cell. Each database has its name in its slots."""
    return f"baskets_shared_cell_{cell}"


def publish(publisher: int, *, actor: Actor) -> None:
    """Let a cell publish what all cells share. Safe to repeat.

    :raises ReplicationRefused: its server does not write the log that replication needs.
    """
    ((level,),) = _rows(publisher, "SHOW wal_level")
    if level != "logical":
        raise ReplicationRefused(f"The server of cell {publisher} has wal_level = {level}. Set it to logical, and restart the server.")
    tables = sql.SQL(", ").join(
        sql.SQL("{} ({})").format(sql.Identifier(shared.name), sql.SQL(", ").join(map(sql.Identifier, shared.columns))) for shared in SHARED
    )
    with _owner(publisher) as cursor:
        _unsubscribe(cursor)
        for shared in SHARED:
            cursor.execute(
                sql.SQL("DROP TRIGGER IF EXISTS {} ON {}").format(sql.Identifier(PUBLISHER_CONSTRAINT), sql.Identifier(shared.name))
            )
            # A former subscriber has never drawn the numbers of the rows that it received.
            cursor.execute("SELECT pg_get_serial_sequence(%s, %s)", [shared.name, shared.key])
            if (sequence := cursor.fetchone()) and sequence[0]:
                cursor.execute(
                    sql.SQL("SELECT setval(%s, greatest(max({key}), nextval(%s))) FROM {table}").format(
                        key=sql.Identifier(shared.key), table=sql.Identifier(shared.name)
                    ),
                    [sequence[0], sequence[0]],
                )
        _begin_without_pieces(cursor)
        cursor.execute("SELECT FROM pg_publication WHERE pubname = %s", [PUBLICATION])
        change = "ALTER PUBLICATION {} SET TABLE {}" if cursor.fetchall() else "CREATE PUBLICATION {} FOR TABLE {}"
        cursor.execute(sql.SQL(change).format(sql.Identifier(PUBLICATION), tables))
        _record(publisher, publisher, actor)


def subscribe(cell: int, *, publisher: int, conninfo: str = "", actor: Actor) -> None:
    """Make a cell equal to the publisher in all that cells share, and let it follow. Safe to repeat, also after it was killed.

    Keeps changes of the shared tables out of the publisher while it reads them. In the cell it changes the rows that differ, in one
    transaction. What is left half done by an end in between is a replication slot, which the next run replaces.

    :param conninfo: how the server of the cell reaches the publisher's database; empty: as this process does.
    :raises ReplicationRefused: the cell has products that the publisher does not have, or rows that refer to rows of other tables that it
        does not have.
    """
    slot = slot_name(cell)
    with _owner(cell) as cursor:
        _unsubscribe(cursor)
        _begin_without_pieces(cursor)
    with _second_connection(publisher) as walsender:
        _replace_slot(walsender, slot)
        staged, limited = _read_shared(publisher, walsender, slot)
    conninfo = conninfo or _conninfo(publisher)
    try:
        with _owner(cell) as cursor:
            cursor.execute("CREATE TEMPORARY TABLE known_product ON COMMIT DROP AS SELECT product_id FROM baskets_product")
            for shared in SHARED:
                cursor.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER USER").format(sql.Identifier(shared.name)))
            for shared in SHARED:
                _stage(cursor, shared, staged[shared.name])
            _check_products(cursor, cell, publisher)
            for shared in reversed(SHARED):
                cursor.execute(_fill(DELETE_OTHER_ROWS, shared))
            for shared in SHARED:
                cursor.execute(_fill(INSERT_MISSING_ROWS, shared))
            cursor.execute(LIMIT_NEW_PRODUCTS, [limited])
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute(sql.SQL(GUARD_FUNCTION).format(guard=sql.Identifier(PUBLISHER_CONSTRAINT)))
            for shared in SHARED:
                cursor.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER USER").format(sql.Identifier(shared.name)))
                cursor.execute(
                    sql.SQL(GUARD).format(
                        guard=sql.Identifier(PUBLISHER_CONSTRAINT),
                        table=sql.Identifier(shared.name),
                        publisher=sql.Literal(str(publisher)),
                        ignored=sql.Literal("{" + ",".join([*shared.own, *shared.touched]) + "}"),
                    )
                )
            _begin_without_pieces(cursor)
            cursor.execute(
                sql.SQL(CREATE_SUBSCRIPTION).format(
                    sql.Identifier(SUBSCRIPTION), sql.Literal(conninfo), sql.Identifier(PUBLICATION), sql.Literal(slot)
                )
            )
            _record(cell, publisher, actor)
    except IntegrityError as error:
        raise ReplicationRefused(
            f"Cell {cell} has rows that refer to others that cell {publisher} does not have; nothing in it has changed: "
            f"{str(error).strip().splitlines()[0]}."
        ) from error


def _read_shared(publisher: int, walsender: Any, slot: str) -> tuple[dict[str, list[bytes]], list[str]]:
    """Read the shared tables, and let the slot begin exactly after what was read.

    :returns: the rows by table, as COPY writes them, and the products that are limited.
    """
    staged = {}
    with _owner(publisher) as cursor:
        names = sql.SQL(", ").join(sql.Identifier(shared.name) for shared in SHARED)
        cursor.execute(sql.SQL("LOCK TABLE {} IN SHARE MODE").format(names))
        # Every change that is visible here was committed before this message, and the message is flushed with all before it.
        walsender.execute("SET synchronous_commit = on")
        walsender.execute("SELECT pg_replication_slot_advance(%s, pg_logical_emit_message(true, 'baskets', ''))", [slot])
        for shared in SHARED:
            columns = sql.SQL(", ").join(map(sql.Identifier, shared.columns))
            with cursor.copy(sql.SQL("COPY {} ({}) TO STDOUT").format(sql.Identifier(shared.name), columns)) as copy:
                staged[shared.name] = [bytes(part) for part in copy]
        cursor.execute("SELECT product_id FROM baskets_stock WHERE limited")
        limited = [product_id for (product_id,) in cursor.fetchall()]
    return staged, limited


def _stage(cursor: Any, shared: SharedTable, rows: Sequence[bytes]) -> None:
    columns = sql.SQL(", ").join(map(sql.Identifier, shared.columns))
    names = {"staged": sql.Identifier(f"staged_{shared.name}"), "table": sql.Identifier(shared.name), "columns": columns}
    cursor.execute(sql.SQL("CREATE TEMPORARY TABLE {staged} ON COMMIT DROP AS SELECT {columns} FROM {table} LIMIT 0").format(**names))
    with cursor.copy(sql.SQL("COPY {staged} ({columns}) FROM STDIN").format(**names)) as copy:
        for part in rows:
            copy.write(part)
    cursor.execute(sql.SQL("ANALYZE {staged}").format(**names))


def _check_products(cursor: Any, cell: int, publisher: int) -> None:
    """Check that no product of the cell would be deleted. No foreign key does: see Note [Keys without a check] in `models.events`.

    The tables are staged, and no other transaction can write to that of the products.

    :raises ReplicationRefused: the publisher lacks one.
    """
    cursor.execute(_fill(FIRST_OWN_ROW, PRODUCTS))
    if found := cursor.fetchall():
        raise ReplicationRefused(
            f"Cell {cell} has products that cell {publisher} does not have, {found[0][0]} among them; nothing in it has changed. "
            f"A product is never deleted: import them in cell {publisher} first."
        )


def _fill(template: str, shared: SharedTable) -> sql.Composed:
    """Fill the names of a shared table into a statement."""
    columns = [sql.Identifier(column) for column in shared.columns]
    return sql.SQL(template).format(
        table=sql.Identifier(shared.name),
        staged=sql.Identifier(f"staged_{shared.name}"),
        key=sql.Identifier(shared.key),
        columns=sql.SQL(", ").join(columns),
        of_table=sql.SQL(", ").join(sql.SQL("t.{}").format(column) for column in columns),
        of_staged=sql.SQL(", ").join(sql.SQL("s.{}").format(column) for column in columns),
    )


def _record(cell: int, publisher: int, actor: Actor) -> None:
    data, database = {"publisher": publisher}, stock_moves.database_of(cell)
    audit_log.record(kind=DeskEntry.Kind.MAINTAINED, about="replication", data=data, actor=actor, using=database)


def _begin_without_pieces(cursor: Any) -> None:
    unlimited = [product_id for product_id, product in sandbox_catalog.PRODUCTS.items() if product.stock is None]
    cursor.execute(sql.SQL(BEGIN_WITHOUT_PIECES).format(unlimited=sql.Literal(unlimited)))


def _unsubscribe(cursor: Any) -> None:
    """Drop the subscription and leave its slot, which the publisher may not answer for now."""
    cursor.execute(
        "SELECT FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE s.subname = %s AND d.datname = current_database()",
        [SUBSCRIPTION],
    )
    if cursor.fetchall():
        for step in ("ALTER SUBSCRIPTION {} DISABLE", "ALTER SUBSCRIPTION {} SET (slot_name = NONE)", "DROP SUBSCRIPTION {}"):
            cursor.execute(sql.SQL(step).format(sql.Identifier(SUBSCRIPTION)))


def _replace_slot(walsender: Any, slot: str) -> None:
    """Create a replication slot; drop the one of that name first. A subscriber that still uses it is cut off.

    :raises ReplicationRefused: it stays in use.
    """
    end = time.monotonic() + SLOT_SECONDS
    while True:
        walsender.execute("SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", [slot])
        rows = walsender.fetchall()
        if not rows:
            break
        if rows[0][0] is None:
            walsender.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        elif time.monotonic() > end:
            raise ReplicationRefused(f"The replication slot {slot} stays in use; run the command again.")
        else:
            walsender.execute("SELECT pg_terminate_backend(%s)", [rows[0][0]])
            time.sleep(0.05)
    # It waits for every transaction of the server that writes, in any database. It holds no lock for which a call waits.
    walsender.execute(f"SET lock_timeout = '{SLOT_SECONDS}s'")
    walsender.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    walsender.execute("RESET lock_timeout")


@contextmanager
def _owner(cell: int) -> Iterator[Any]:
    """Yield a cursor in one transaction of a cell whose statements may take as long as they need."""
    database = stock_moves.database_of(cell)
    waits, unit = client_waits(statement_seconds=None), transaction.atomic(using=database, durable=True)
    with waits, unit, connections[database].cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        yield cursor


@contextmanager
def _second_connection(cell: int) -> Iterator[Any]:
    """Yield a cursor of a separate connection to a cell: a slot cannot be made in a transaction that reads beside it."""
    other = connections[stock_moves.database_of(cell)].copy()
    try:
        with client_waits(statement_seconds=None), other.cursor() as cursor:
            cursor.execute("SET statement_timeout = 0")
            yield cursor
    finally:
        other.close()


def _conninfo(cell: int) -> str:
    """Return how libpq reaches the database of a cell, as this process does."""
    given = connections[stock_moves.database_of(cell)].get_connection_params()
    return make_conninfo(**{name: given[name] for name in CONNECTION_FIELDS if given.get(name)})


def _rows(cell: int, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connections[stock_moves.database_of(cell)].cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())
