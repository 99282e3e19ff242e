"""Plans that are made while nothing is active, held or open, and are kept when a crowd has come.

A statement is planned once for each connection. Where an index of what is active was empty then, reading the whole of it looked as cheap as
finding one row.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from django.db import connection, transaction

import baskets.domain
from baskets.db.statements import Statement, to_array_literal, to_dollar_params
from baskets.domain.checkout.ending import EXPIRE_SESSIONS
from baskets.models import Partner

# Committed, so that what they leave is truncated: a roll-back would leave the tables long, and the sizes that ANALYZE has noted.
pytestmark = pytest.mark.django_db(transaction=True)
Plan = dict[str, Any]

# Baskets with a session of two items each. What has ended leaves the partial indexes of what is active, held or open empty.
FILL = """
WITH product AS (
    INSERT INTO baskets_product (product_id, name, brand, variant, main_product_id, price, currency, listed)
    SELECT 'p-' || n, '', '', '', '', 100, 'EUR', true FROM generate_series(0, 99) n ON CONFLICT DO NOTHING
), stock AS (
    INSERT INTO baskets_stock (product_id, limited, available, shortfall, reported_as_of)
    SELECT 'p-' || n, true, 5, 0, now() FROM generate_series(0, 99) n ON CONFLICT DO NOTHING
), basket AS (
    INSERT INTO baskets_basket (id, partner_id, user_id, guest, revision, events, created_at, last_changed_at, expires_at)
    SELECT md5(%(status)s || n)::uuid, %(partner)s, %(status)s || n, false, 2, 1, now() - interval '2 hours', now(),
           now() + interval '1 day'
    FROM generate_series(1, %(baskets)s) n RETURNING id, user_id
), session AS (
    INSERT INTO baskets_checkoutsession (basket_id, partner_id, order_no, status, test_mode, late, started_at, expires_at, finished_at,
        released_at, ended_revision, language, country, stripe_using_sdk, currency, full_price)
    SELECT id, %(partner)s, user_id, %(status)s, false, false, now() - interval '2 hours', now() - interval '1 hour',
           CASE WHEN %(ended)s THEN now() END, CASE WHEN %(status)s = 'EXPIRED' THEN now() END, CASE WHEN %(ended)s THEN 2 END,
           '', '', false, 'EUR', 200
    FROM basket RETURNING id, basket_id
), item AS (
    INSERT INTO baskets_checkoutitem (basket_id, session_id, product_id, count, stocked, position, price, currency)
    SELECT basket_id, id, 'p-' || (id + n) %% 100, 1, 1, n, 100, 'EUR' FROM session, generate_series(1, 2) n
), in_cart AS (
    INSERT INTO baskets_basketitem (basket_id, product_id, list, count, position)
    SELECT basket_id, 'p-' || id %% 100, 'cart', 1, 1 FROM session
), hold AS (
    INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at)
    SELECT basket_id, id, 'p-' || (id + n) %% 100, %(hold)s, 1, now() - interval '2 hours',
           now() - interval '1 hour', CASE WHEN %(ended)s THEN now() END
    FROM session, generate_series(1, 2) n
), attention AS (
    INSERT INTO baskets_attention (basket_id, session_id, reason, created_at, settled_at, settled_by, note)
    SELECT basket_id, id, 'short', now(), CASE WHEN %(ended)s THEN now() END, CASE WHEN %(ended)s THEN 'rita' ELSE '' END, '' FROM session
), event AS (
    INSERT INTO baskets_event (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
    SELECT basket_id, 1, 1, CASE WHEN %(ended)s THEN 'basket_deleted' ELSE 'repaired' END, id, now(), 'system', 't', '', '{}',
           CASE WHEN %(ended)s THEN '{"cart": [], "saved": []}'::jsonb ELSE '{"repair": "note", "reason": "seen"}' END
    FROM session RETURNING id
)
INSERT INTO baskets_feedposition (position, event_id, partner_id, kind)
SELECT id, id, %(partner)s, %(kind)s FROM event
"""
# The kinds of the feed that a shop has: to a plan, a kind that no event has is cheaper than the events of a basket.
KINDS = {"ORDERED": "checkout_ordered", "EXPIRED": "checkout_expired", "ACTIVE": "checkout_started"}
HOLDS = {"ORDERED": "SOLD", "EXPIRED": "RELEASED", "ACTIVE": "HELD"}
# The tables that grow with the crowd.
TABLES = ("basket", "basketitem", "checkoutsession", "checkoutitem", "stockreservation", "attention", "event", "feedposition")
CROWD = 10_000
# These ask about everything.
ABOUT_ALL = {
    "api.views.metrics.DATABASE_NUMBERS": "counts all active sessions and open flags",
    "domain.cells.slot_moves.COUNT_ACTIVE": "counts the active sessions of a slot",
    "domain.cells.supply_check.TOTALS": "sums all held and sold pieces",
    "domain.cells.rebalancing.READ_LEVELS": "sums the latest sales of all products",
    "domain.cells.basket_copies.UNEXPLAINED": "sums held and sold pieces of a product with a shortfall",
    "domain.stock.supply.SET_UNSOLD": "is planned for each report, by Django",
}
# Parts of statements, and statements about temporary tables.
FRAGMENTS = {
    *("INSERT_INTO_EVENT", "WRITE_ITEMS", "BASKETS"),
    *("LIMIT_NEW_PRODUCTS", "INSERT_NEW_PRODUCTS", "UPDATE_CHANGED_PRODUCTS"),
}
FIRST_COLUMNS = "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid, 1, true) FROM pg_index"


class Prepared(NamedTuple):
    """A statement that this connection has planned for any values."""

    name: str
    execute: str


def statements() -> dict[str, str]:
    """All statements of the service outside of the proofs, which read everything: their SQL by the names of their constants."""
    found: dict[str, str] = {}
    for module in pkgutil.walk_packages(baskets.__path__, "baskets."):
        if not module.name.startswith(("baskets.domain.", "baskets.models.", "baskets.api.")) or ".invariants" in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            for part in value if isinstance(value, tuple) else (value,):
                sql = part.sql if isinstance(part, Statement) else part
                if isinstance(sql, str) and re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\s", sql) and name not in FRAGMENTS:
                    found.setdefault(sql, f"{module.name.removeprefix('baskets.')}.{name}")
    return {sql: name for sql, name in found.items() if not re.search(r"(?<!')\{\w+\}", sql)}


def fill(partner: Partner, status: str, number: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            FILL,
            {
                "partner": partner.pk,
                "status": status,
                "kind": KINDS[status],
                "hold": HOLDS[status],
                "ended": status != "ACTIVE",
                "baskets": number,
            },
        )


@pytest.fixture
def prepared(partner: Partner) -> Iterator[list[Prepared]]:
    """All statements, planned while many sessions have ended and none is active. A table that is short is read by its indexes, too."""
    with connection.cursor() as cursor:
        # Deleted rows of earlier tests still fill pages, which a plan would count.
        cursor.execute("TRUNCATE " + ", ".join(f"baskets_{table}" for table in TABLES) + " CASCADE")
        # An ANALYZE of autovacuum would have the plans made again.
        for table in TABLES:
            cursor.execute(f"ALTER TABLE baskets_{table} SET (autovacuum_enabled = false)")
    for status in ("ORDERED", "EXPIRED"):
        fill(partner, status, 1500)
    planned = []
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE " + ", ".join(f"baskets_{table}" for table in TABLES))
        cursor.execute("SET plan_cache_mode = force_generic_plan")
        cursor.execute("SET enable_seqscan = off")
        for number, (sql, name) in enumerate(statements().items()):
            text = to_dollar_params(sql)[0].decode()
            values = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", text)), default=0))
            cursor.execute(f"PREPARE planned_{number} AS {text}")
            planned.append(Prepared(name, f"EXECUTE planned_{number}{f'({values})' if values else ''}"))
            explain(planned[-1].execute)
    yield planned
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"ALTER TABLE baskets_{table} RESET (autovacuum_enabled)")
    connection.close()


def explain(execute: str, *, options: str = "VERBOSE") -> Plan:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN ({options}, FORMAT JSON) {execute}")
        (found,) = cursor.fetchone()
    plan: Plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def nodes(plan: Plan, *, limited: bool = False) -> Iterator[tuple[Plan, bool]]:
    """Yield each node, and whether it stops after a number of rows."""
    yield plan, limited
    for child in plan.get("Plans", []):
        yield from nodes(child, limited=plan["Node Type"] == "Limit")


def whole_reads(plan: Plan) -> list[str]:
    """Return the indexes and tables of the crowd that a plan reads from end to end: without a condition on the first column."""
    with connection.cursor() as cursor:
        cursor.execute(FIRST_COLUMNS)
        first = dict(cursor.fetchall())
    found = []
    for node, limited in nodes(plan):
        index, table = node.get("Index Name"), node.get("Relation Name", "")
        if table.removeprefix("baskets_") not in TABLES or limited or node["Node Type"] in {"ModifyTable", "Bitmap Heap Scan"}:
            continue
        if index is None or first[index] not in node.get("Index Cond", ""):
            found.append(index or table)
    return found


def test_no_plan_of_an_empty_shop_reads_all_that_a_crowd_holds(partner: Partner, prepared: list[Prepared]) -> None:
    fill(partner, "ACTIVE", CROWD)
    found = {statement.name: reads for statement in prepared if (reads := whole_reads(explain(statement.execute)))}
    assert found.keys() == ABOUT_ALL.keys(), found


def test_a_batch_of_the_sweep_reads_only_its_own_rows(partner: Partner, prepared: list[Prepared]) -> None:
    fill(partner, "ACTIVE", CROWD)
    with connection.cursor() as cursor:
        cursor.execute("SELECT array_agg(id) FROM (SELECT id FROM baskets_basket WHERE starts_with(user_id, 'ACTIVE') LIMIT 300) AS batch")
        (batch,) = cursor.fetchone()
    values = {
        "active": "ACTIVE",
        "held": "HELD",
        "lifetime": "1 day",
        "baskets": to_array_literal(batch),
        "actor_kind": "system",
        "actor": "x",
    }
    arguments = ", ".join(f"'{value}'" for value in EXPIRE_SESSIONS.in_order(values))
    (execute,) = (statement.execute for statement in prepared if statement.name.endswith(".EXPIRE_SESSIONS"))
    with transaction.atomic():
        plan = explain(f"{execute.partition('(')[0]}({arguments})", options="ANALYZE, VERBOSE")
        transaction.set_rollback(True)
    read = [(node.get("Actual Rows", 0) + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node, _ in nodes(plan)]
    assert len(batch) <= max(read) <= 3 * len(batch)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 FROM baskets_stock s JOIN baskets_stockreservation r USING (product_id) WHERE product_id = ANY($1) AND r.status = 'HELD'",
        "SELECT 1 FROM baskets_attention a JOIN baskets_checkoutsession s ON s.id = session_id WHERE s.id = $1 AND settled_at IS NULL",
    ],
    ids=["holds of a product", "open flags of a session"],
)
@pytest.mark.usefixtures("prepared")
def test_a_whole_read_is_found(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"PREPARE careless AS {sql}")
    assert len(whole_reads(explain("EXECUTE careless(NULL)"))) == 1
