"""Every statement of a buyer's calls names the basket's key of each table that has one, so that tables can be divided by it."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.apps import apps
from django.db import connection

from baskets.models.basket_snapshot import READ_ONE, Owner
from tests.domain.scenarios import User
from tests.factories import ProductFactory

TABLES = {
    model._meta.db_table
    for model in apps.get_app_config("baskets").get_models()
    if any(field.name == "basket" for field in model._meta.concrete_fields)
}
REFERENCE = re.compile(r"\b(FROM|JOIN|UPDATE|INTO|USING) (baskets_\w+)(?: (?:AS )?(?!where\b|set\b|on\b|using\b|join\b)([a-z]\w*))?")


def keyless(sql: str) -> list[str]:
    """Return the tables that a statement reaches without the basket's key."""
    found = []
    for word, table, alias in REFERENCE.findall(re.sub(r"\s+", " ", sql)):
        if table not in TABLES:
            continue
        column = rf"\b{alias}\.basket_id" if alias else r"\bbasket_id"
        named = rf"{table} \([^)]*\bbasket_id" if word == "INTO" else rf"{column} (=|IN)|\bbasket_id\)? = {alias or table}\.basket_id"
        if not re.search(named, re.sub(r"\s+", " ", sql)):
            found.append(table)
    return found


@pytest.mark.django_db(transaction=True)
def test_statements_of_a_buyer_name_the_key_of_every_table(owner: Owner) -> None:
    ProductFactory(product_id="song")
    ProductFactory(product_id="shirt", unsold=5)
    shopper, recorded = User(owner), list[str]()

    def record(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        recorded.append(sql)
        return execute(sql, *arguments)

    with connection.execute_wrapper(record):
        shopper.place("song", 2)
        shopper.change("song", 3)
        shopper.place("shirt")
        shopper.basket()
        shopper.remove("shirt")
        shopper.place("shirt")
        order_no = shopper.start().session.order_no
        shopper.finish(False)
        shopper.finish(True, order_no)
        shopper.place("shirt")
        shopper.start()
        shopper.finish(True)
    assert READ_ONE.sql in recorded
    assert {sql: tables for sql in recorded if (tables := keyless(sql))} == {}
    reached = {table for sql in recorded for _, table, _ in REFERENCE.findall(re.sub(r"\s+", " ", sql))}
    assert {"baskets_basketitem", "baskets_checkoutitem", "baskets_checkoutsession", "baskets_stockreservation"} <= reached


@pytest.mark.parametrize(
    "sql",
    [
        READ_ONE.sql.replace(" AND c.basket_id = b.id", ""),
        "UPDATE baskets_checkoutsession SET status = 'EXPIRED' WHERE id = %s",
        "INSERT INTO baskets_basketitem (product_id) SELECT 'shirt'",
    ],
)
def test_a_statement_without_the_key_is_found(sql: str) -> None:
    assert len(keyless(sql)) == 1


@pytest.mark.django_db
def test_generic_plan_finds_items_of_a_checkout_by_their_index() -> None:
    """The key is a filter behind the index of the session: the read costs no other scan."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute("PREPARE read_one_again (uuid) AS " + READ_ONE.sql.replace("%s", "$1"))
        cursor.execute("EXPLAIN EXECUTE read_one_again ('00000000-0000-0000-0000-000000000001')")
        plan = "\n".join(line for (line,) in cursor.fetchall())
        cursor.execute("DEALLOCATE read_one_again")
    assert re.search(r"on baskets_checkoutitem c .*\n\s*(Recheck|Index) Cond: \(session_id = s\.id\)", plan), plan
    assert "Seq Scan" not in plan
