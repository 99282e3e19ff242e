"""Each statement of a buyer's calls names the basket's key of every table that has it. What lacks it is listed here. See ADR 65."""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from baskets.db.statements import to_dollar_params
from baskets.domain.checkout.direct_orders import ORDER_ACTIVE
from baskets.domain.checkout.direct_starts import RESERVE, START
from baskets.domain.checkout.pricing import READ_CART_ENTRIES
from baskets.domain.checkout.purchase_limits import PARTNER_SHARES
from baskets.models import Partner
from baskets.models.basket_snapshot import READ_ONE
from tests.api.conftest import Api, api, issue, sells  # noqa: F401 (fixtures)

pytestmark = pytest.mark.django_db
MODELS = list(apps.get_app_config("baskets").get_models())
# The column of each table that holds the key of a basket.
KEYS = {model._meta.db_table: field.column for model in MODELS for field in model._meta.concrete_fields if field.column == "basket_id"} | {
    "baskets_basket": "id"
}
STOCK = "baskets_stock"
# Two questions about all baskets: whether lapsed holds of any user have the pieces that a start lacks, and what a partner's users hold.
LAPSED_HOLDS = 'SELECT %s AS "a" FROM "baskets_stockreservation"'
OVER_ALL = (LAPSED_HOLDS, PARTNER_SHARES.sql)
Plan = dict[str, Any]


@pytest.fixture
def statements(api: Api, partner: Partner, sells: Callable[..., Any]) -> list[str]:  # noqa: F811
    """Every statement of a buyer's calls: with an Idempotency-Key, with and without shortages, finished, repeated and aborted."""
    sells("song", price=100, currency="EUR")
    sells("shirt", unsold=5)
    sells("cap", unsold=1)
    item, recorded = "/baskets/users/ada/products/song", list[str]()

    def record(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        recorded.append(sql)
        return execute(sql, *arguments)

    with connection.execute_wrapper(record):
        assert api.place("song").status == 200
        assert api.post(item, {"count": 2}, Idempotency_Key="one").status == 200
        assert api.post(item, {"count": 2}, Idempotency_Key="one").status == 200
        assert api.patch(item, {"count": 3}).status == 200
        assert api.patch(item, {"count": 0}).status == 200
        assert api.basket()["saved"]
        assert api.delete(item).status == 200
        for product, count in (("song", 1), ("shirt", 1), ("cap", 2)):
            api.place(product, count)
        order_no = api.start().data["orderNo"]  # The caps are short.
        assert api.session(order_no).status == 200
        assert api.finish(False, order_no=order_no).status == 200
        assert api.delete("/baskets/users/ada/products/cap").status == 200
        for product in ("shirt", "song"):
            order_no = api.start().data["orderNo"]
            assert api.basket()["checkout"]
            assert api.finish(True, order_no=order_no, Idempotency_Key=order_no).status == 200
            assert api.finish(True, order_no=order_no).status == 200
            api.place(product)
        api.start()
        assert api.finish(True).status == 200
        api.place("cap", 2)
        assert api.start().status == 422
        partner.share_percent = 90
        partner.save()
        api.place("cap")
        assert api.start().status == 200
        assert api.finish(False).status == 200
        assert api.delete("/baskets/users/ada").status == 200
    return list(dict.fromkeys(sql for sql in recorded if re.match(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b", sql)))


def generic_plan(sql: str) -> Plan:
    """Explain a statement as it is planned for any values, where no table is so small that reading all of it is cheapest."""
    text = to_dollar_params(sql)[0].decode()
    values = ", ".join(["NULL"] * max(map(int, re.findall(r"\$(\d+)", text)), default=0))
    with connection.cursor() as cursor:
        # As in a new database: after an autovacuum the planner knows that a table is nearly empty, and takes any way through it.
        cursor.execute("DELETE FROM pg_statistic USING pg_class c WHERE c.oid = starelid AND c.relname LIKE 'baskets_%'")
        cursor.execute("UPDATE pg_class SET relpages = 0, reltuples = -1 WHERE relname LIKE 'baskets_%' AND relkind = 'r'")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"PREPARE explained AS {text}")
        cursor.execute(f"EXPLAIN (VERBOSE, FORMAT JSON) EXECUTE explained{f'({values})' if values else ''}")
        (found,) = cursor.fetchone()
        cursor.execute("DEALLOCATE explained")
    plan: Plan = (json.loads(found) if isinstance(found, str) else found)[0]["Plan"]
    return plan


def nodes(plan: Plan, joins: str = "") -> Iterator[tuple[Plan, str]]:
    """Yield each node with the conditions that it and the joins above it have."""
    joins += " ".join(plan.get(name, "") for name in ("Join Filter", "Hash Cond", "Merge Cond"))
    yield plan, joins + " ".join(plan.get(name, "") for name in ("Index Cond", "Recheck Cond", "Filter"))
    for child in plan.get("Plans", []):
        yield from nodes(child, joins)


def keyless(plan: Plan) -> list[str]:
    """Return the tables that a plan reads without the basket's key, or as a whole. What it inserts has the key, which is never null."""
    found = []
    for node, conditions in nodes(plan):
        table, alias = node.get("Relation Name"), node.get("Alias")
        if table not in KEYS or node["Node Type"] == "ModifyTable":
            continue
        column = rf"\b{alias}\.{KEYS[table]}"
        if not re.search(rf"{column} = |= {column}\b", conditions) or not {"Index Cond", "Recheck Cond"} & node.keys():
            found.append(str(table))
    return found


def tables(plan: Plan) -> set[str]:
    return {node["Relation Name"] for node, _ in nodes(plan) if "Relation Name" in node}


def test_generic_plans_of_a_buyer_name_the_key_of_every_table(statements: list[str]) -> None:
    plans = {sql: generic_plan(sql) for sql in statements}
    without = {sql: found for sql, plan in plans.items() if (found := keyless(plan))}
    assert len([sql for sql in without if sql.startswith(OVER_ALL)]) == len(OVER_ALL)
    assert {sql: found for sql, found in without.items() if not sql.startswith(OVER_ALL)} == {}
    reached = set().union(*map(tables, plans.values()))
    assert {f"baskets_{name}" for name in ("basketitem", "checkoutitem", "checkoutsession", "stockreservation", "event")} <= reached
    assert {READ_ONE.sql, ORDER_ACTIVE.sql, START.sql} <= plans.keys()
    # A start reads the catalog entries of a cart before it knows the cart, which saves a round trip; a direct start saves another.
    with_stock = {sql for sql, plan in plans.items() if STOCK in tables(plan) and tables(plan) & KEYS.keys()}
    assert with_stock == {READ_CART_ENTRIES.sql, PARTNER_SHARES.sql, START.sql, RESERVE.sql}


@pytest.mark.parametrize(
    ("sql", "table"),
    [
        (READ_ONE.sql.replace(" AND c.basket_id = b.id", ""), "checkoutitem"),
        (READ_ONE.sql.replace("b.id = %s", "b.user_id = %s"), "basket"),
        ("UPDATE baskets_checkoutsession SET status = 'EXPIRED' WHERE id = %s", "checkoutsession"),
        (ORDER_ACTIVE.sql.replace(" AND item.basket_id = b.id", ""), "checkoutitem"),
        ("SELECT count(*) FROM baskets_event WHERE basket_id <> %s", "event"),
    ],
    ids=["item of a checkout", "basket by its user", "session by its id", "item of an order", "events of others"],
)
def test_a_statement_without_the_key_is_found(sql: str, table: str) -> None:
    assert keyless(generic_plan(sql)) == [f"baskets_{table}"]


# Each has an id that is unique in one database; the others are unique for a session, or are drawn at random and looked up by nothing else.
UNIQUE_WITHOUT_KEY = {
    *(f"{table}_pkey" for table in KEYS if table not in {"baskets_basket", "baskets_comfort"}),
    *("one_item_per_session_and_product", "one_live_and_one_short_record_per_checkout_item"),
    *("one_flag_per_session_and_reason", "baskets_checkoutsession_order_no_key", "baskets_transfer_digest_key"),
    "one_basket_per_partner_and_user",  # The key is computed of both.
}
FOREIGN_KEYS_WITHOUT_KEY = {"baskets_attention baskets_checkoutsession"}
UNIQUE = """
SELECT indexrelid::regclass::text FROM pg_index
WHERE indrelid = %s::regclass AND indisunique AND NOT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = indrelid AND attnum = ANY(indkey) AND attname = %s
)
"""
FOREIGN_KEYS = """
SELECT c.conrelid::regclass::text || ' ' || c.confrelid::regclass::text FROM pg_constraint c
WHERE c.contype = 'f' AND c.conrelid = %s::regclass AND c.confrelid = ANY(%s::regclass[]) AND NOT EXISTS (
    SELECT FROM pg_attribute WHERE attrelid = c.conrelid AND attnum = ANY(c.conkey) AND attname = %s
)
"""


def test_constraints_without_the_key_are_known() -> None:
    """Within one database each is stronger than one with the key."""
    with connection.cursor() as cursor:
        unique, foreign, nullable = set[str](), set[str](), set[str]()
        for table, column in KEYS.items():
            cursor.execute(UNIQUE, [table, column])
            unique |= {name for (name,) in cursor}
            cursor.execute(FOREIGN_KEYS, [table, list(KEYS), column])
            foreign |= {name for (name,) in cursor}
            cursor.execute("SELECT 1 FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s AND NOT attnotnull", [table, column])
            nullable |= {table for _ in cursor}
    assert nullable == set()
    assert unique == UNIQUE_WITHOUT_KEY
    assert foreign == FOREIGN_KEYS_WITHOUT_KEY
