"""One catalog and one access for three cells, by PostgreSQL's logical replication: what arrives, what does not, and what is refused."""

import math
from collections.abc import Iterator
from functools import partial
from threading import Timer
from typing import Any

import psycopg
import pytest
from django.contrib.auth.models import Group, User
from django.db import DatabaseError, connections
from pytest_django import Settings

from basket_project.settings import DATABASE_SESSION
from baskets.api.views.metrics import DATABASE_NUMBERS
from baskets.domain.access import api_keys
from baskets.domain.cells import replication, shared_check
from baskets.domain.stock import catalog
from baskets.models import Partner, Product, TokenIssuer
from tests.cells import close, copies, end_replication, eventually, running
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.factories import TESTER, ProductFactory

# All tests of replication in one process: several would wait for each other's transactions.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("replication")]


@pytest.fixture(scope="module")
def other_databases(django_db_setup: None, django_db_blocker: Any) -> Iterator[list[str]]:
    with copies(3, django_db_blocker) as names:
        yield names


@pytest.fixture
def cells(partner: Partner, settings: Settings, other_databases: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Three cells with one limited product, `shirt`, and one unlimited, `song`; they share nothing yet."""
    ProductFactory(product_id="song")
    sell(ProductFactory(product_id="shirt"), 10)
    with running(other_databases, settings, monkeypatch) as urls:
        try:
            yield urls
        finally:
            close()
            end_replication(urls)


def sell(product: Product, unsold: int | None) -> None:
    rows = [catalog.ProductRow(product_id=product.pk, name=product.name, stock=unsold)]
    catalog.import_products(rows=rows, as_of=None, reason="a test", actor=TESTER)


def read(address: str, statement: str, *values: Any) -> Any:
    """Read the first column of the first row; None without a row."""
    with psycopg.connect(address) as client:
        row = client.execute(statement, values).fetchone()
    return row[0] if row else None


def obtainable(address: str, product_id: str) -> Any:
    """Read what a start finds: `unlimited`, the available pieces, or None for an unknown product."""
    statement = """
        SELECT CASE WHEN s.limited THEN s.available::text ELSE 'unlimited' END
        FROM baskets_product p LEFT JOIN baskets_stock s USING (product_id) WHERE p.product_id = %s
    """
    return read(address, statement, product_id)


def test_what_is_shared_reaches_every_cell_and_stock_does_not(cells: list[str], run: Run, partner: Partner) -> None:  # noqa: F811
    _first, second, third = cells
    # The cells have grown apart: another permission number, another product, another account, a setting of a shared row.
    with psycopg.connect(second) as client:
        client.execute("UPDATE auth_group_permissions SET permission_id = permission_id + 1000")
        client.execute("UPDATE auth_permission SET id = id + 1000")
        client.execute(
            "INSERT INTO auth_user (username, password, is_superuser, is_staff, is_active, first_name, last_name, email, date_joined) "
            "VALUES ('only-there', '', true, true, true, '', '', '', now())"
        )
        client.execute("UPDATE baskets_product SET name = 'Another' WHERE product_id = 'shirt'")
    User.objects.create_user("anna", password="of all cells", is_staff=True).groups.add(Group.objects.get(name="Basket repairers"))
    ended = run("replicate_catalog", "--json")
    assert (ended.code, ended.data) == (0, {"publisher": 1, "subscribers": [2, 3]})
    for address in cells:
        assert read(address, "SELECT data ->> 'publisher' FROM baskets_deskentry WHERE about = 'replication'") == "1"
    for address in (second, third):
        assert read(address, "SELECT username FROM auth_user") == "anna"
        assert read(address, "SELECT name FROM baskets_product WHERE product_id = 'shirt'") != "Another"
        assert obtainable(address, "shirt") == "10"
        assert obtainable(address, "song") == "unlimited"
        assert read(address, "SELECT count(*) FROM baskets_partner") == 1

    key, _ = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)
    Partner.objects.filter(pk=partner.pk).update(hold_seconds=77)
    Product.objects.filter(pk="shirt").update(price=500, currency="EUR")
    TokenIssuer.objects.create(
        partner=partner, name="idp", keys_url="https://idp.example", algorithms=["ES256"], fetched_keys={}, fetched_at="2026-01-01T00:00Z"
    )
    User.objects.create_user("bob", password="in all cells", is_staff=True)
    for address in (second, third):
        eventually(partial(lambda address: read(address, "SELECT count(*) FROM auth_user") == 2, address))
        assert read(address, "SELECT prefix FROM baskets_apikey") == key.prefix
        assert read(address, "SELECT hold_seconds FROM baskets_partner") == 77
        assert read(address, "SELECT price FROM baskets_product WHERE product_id = 'shirt'") == 500
        assert read(address, "SELECT fetched_keys IS NULL FROM baskets_tokenissuer")
        assert read(address, "SELECT count(*) FROM auth_user_groups") == 1
    # A repetition finds nothing to change, and the cells still follow.
    assert run("replicate_catalog", "--cell", "2").code == 0
    User.objects.filter(username="bob").delete()
    for address in (second, third):
        eventually(partial(lambda address: read(address, "SELECT count(*) FROM auth_user") == 1, address))


def test_a_new_product_is_sold_by_no_cell_before_it_has_its_share(cells: list[str], run: Run) -> None:  # noqa: F811
    assert run("replicate_catalog").code == 0
    ProductFactory(product_id="poster")
    for address in cells:
        eventually(partial(lambda address: obtainable(address, "poster") is not None, address))
        assert obtainable(address, "poster") == "0"
    sell(Product.objects.get(pk="poster"), 5)
    assert [obtainable(address, "poster") for address in cells] == ["5", "0", "0"]
    ProductFactory(product_id="stream")
    sell(Product.objects.get(pk="stream"), None)
    eventually(lambda: obtainable(cells[2], "stream") == "0")
    assert obtainable(cells[0], "stream") == "unlimited"
    (finding,) = run("check_baskets", "--cells", "--json").data["findings"]
    assert finding["examples"] == [{"product": "stream", "unlimited_in": [1]}]


def test_control_without_the_trigger_a_new_product_is_unlimited(cells: list[str], run: Run) -> None:  # noqa: F811
    assert run("replicate_catalog").code == 0
    with psycopg.connect(cells[1]) as client:
        client.execute("ALTER TABLE baskets_product DISABLE TRIGGER product_begins_without_pieces")
    ProductFactory(product_id="poster")
    eventually(lambda: obtainable(cells[1], "poster") is not None)
    assert obtainable(cells[1], "poster") == "unlimited"


def test_a_subscriber_refuses_what_the_publisher_changes_and_serves_sign_ins(cells: list[str], run: Run) -> None:  # noqa: F811
    User.objects.create_user("anna", password="of all cells", is_staff=True)
    assert run("replicate_catalog").code == 0
    for statement in (
        "UPDATE baskets_product SET price = 1, currency = 'EUR'",
        "DELETE FROM auth_user",
        "UPDATE auth_user SET is_superuser = true",
        "INSERT INTO auth_group (name) VALUES ('more')",
    ):
        refused = pytest.raises(psycopg.errors.CheckViolation, match=r"cell 1 publishes \w+ to this cell: make the change there")
        with psycopg.connect(cells[1]) as client, refused:
            client.execute(statement)
    with psycopg.connect(cells[1]) as client:
        client.execute("UPDATE auth_user SET last_login = now()")
        client.execute("UPDATE baskets_product SET price = price")


def test_a_revoked_key_is_refused_in_every_cell_within_seconds(cells: list[str], run: Run, partner: Partner) -> None:  # noqa: F811
    """Each call verifies its key in the database of its cell (ADR 31), so replication is the whole delay."""
    key, _ = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)
    assert run("replicate_catalog").code == 0
    api_keys.revoke_api_key(prefix=key.prefix, reason="lost", actor=TESTER)
    for address in cells[1:]:
        seconds = eventually(partial(lambda address: read(address, "SELECT revoked_at FROM baskets_apikey") is not None, address))
        assert seconds < 5


def test_a_cell_that_hears_nothing_of_its_publisher_says_so(cells: list[str], run: Run) -> None:  # noqa: F811
    def silent(alias: str) -> float:
        with connections[alias].cursor() as cursor:
            cursor.execute(DATABASE_NUMBERS.sql)
            return float(cursor.fetchall()[0][-1])

    assert run("replicate_catalog").code == 0
    assert silent("cell_1") == 0
    eventually(lambda: 0 <= silent("cell_2") < 60)
    with psycopg.connect(cells[1], autocommit=True) as client:
        client.execute(f"ALTER SUBSCRIPTION {replication.SUBSCRIPTION} DISABLE")
    eventually(lambda: silent("cell_2") == math.inf)


def test_setting_up_is_killed_at_any_step_and_repeated(cells: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    replication.publish(1, actor=TESTER)
    for step in ("_replace_slot", "_read_shared", "_stage", "_begin_without_pieces"):
        with monkeypatch.context() as killed:
            killed.setattr(replication, step, lambda *_: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                replication.subscribe(2, publisher=1, actor=TESTER)
        close()
    ProductFactory(product_id="poster")
    assert run("replicate_catalog").code == 0
    ProductFactory(product_id="stream")
    for address in cells[1:]:
        eventually(partial(lambda address: obtainable(address, "stream") == "0", address))
        assert obtainable(address, "poster") == "0"
        assert obtainable(address, "song") == "unlimited"


def test_setting_up_leaves_the_slots_of_other_tests_on_the_server(cells: list[str], run: Run) -> None:  # noqa: F811
    with psycopg.connect(cells[2]) as other:
        other.execute("SELECT pg_create_logical_replication_slot('baskets_shared_cell_2', 'pgoutput')")
    assert run("replicate_catalog", "--cell", "2").code == 0
    assert read(cells[2], "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == "baskets_shared_cell_2"


def test_setting_up_waits_for_a_transaction_longer_than_a_call_would(cells: list[str], run: Run) -> None:  # noqa: F811
    with psycopg.connect(cells[2]) as writer:
        writer.execute("SELECT pg_current_xact_id()")
        end = Timer(float(DATABASE_SESSION["lock_timeout"].removesuffix("s")) + 0.5, writer.rollback)
        end.start()
        assert run("replicate_catalog", "--cell", "2").code == 0
        assert not end.is_alive()


def test_a_product_that_only_a_subscriber_has_is_not_lost(cells: list[str], run: Run) -> None:  # noqa: F811
    with psycopg.connect(cells[1]) as client:
        client.execute(
            "INSERT INTO baskets_product (product_id, name, brand, variant, main_product_id, currency, listed) "
            "VALUES ('own', 'x', '', '', '', '', true)"
        )
    ended = run("replicate_catalog")
    assert ended.code == 1
    assert "Cell 2 has products that cell 1 does not have, own among them; nothing in it has changed" in ended.err
    assert obtainable(cells[1], "own") == "unlimited"
    ProductFactory(product_id="own")
    assert run("replicate_catalog").code == 0
    with psycopg.connect(cells[0]) as client, pytest.raises(psycopg.errors.ForeignKeyViolation, match="a product is never deleted"):
        client.execute("DELETE FROM baskets_product WHERE product_id = 'own'")


OWN_BASKET = """
INSERT INTO baskets_basket (id, partner_id, user_id, guest, revision, events, created_at, last_changed_at, expires_at)
SELECT gen_random_uuid(), id, 'ada', false, 0, 0, now(), now(), now() + interval '1 day' FROM baskets_partner WHERE name = 'own'
"""


def test_rows_that_others_refer_to_are_not_lost(cells: list[str], run: Run) -> None:  # noqa: F811
    with psycopg.connect(cells[1]) as client:
        client.execute("INSERT INTO baskets_partner (name, late_orders, origins) VALUES ('own', 'refuse', '{}')")
        client.execute(OWN_BASKET)
    ended = run("replicate_catalog")
    assert ended.code == 1
    assert "Cell 2 has rows that refer to others that cell 1 does not have; nothing in it has changed" in ended.err
    assert read(cells[1], "SELECT count(*) FROM baskets_partner WHERE name = 'own'") == 1
    with psycopg.connect(cells[1]) as client:  # For the next test.
        client.execute("DELETE FROM baskets_basket")
        client.execute("DELETE FROM baskets_partner WHERE name = 'own'")


def test_another_cell_becomes_the_publisher(cells: list[str], run: Run) -> None:  # noqa: F811
    assert run("replicate_catalog").code == 0
    assert run("replicate_catalog", "--publisher", "2").code == 0
    with psycopg.connect(cells[1]) as client:
        client.execute("INSERT INTO auth_group (name) VALUES ('of the second')")
    for address in (cells[0], cells[2]):
        eventually(partial(lambda address: read(address, "SELECT count(*) FROM auth_group WHERE name = 'of the second'") == 1, address))
    with pytest.raises(DatabaseError, match="cell 2 publishes auth_group"):
        Group.objects.create(name="refused")


def test_the_check_of_all_cells_finds_what_differs(cells: list[str], run: Run, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    assert run("replicate_catalog").code == 0
    monkeypatch.setattr(shared_check, "ARRIVAL_SECONDS", 60)  # Workers of a subscription start late on a busy machine.
    checked = run("check_baskets", "--cells", "--json")
    assert (checked.code, checked.data["findings"]) == (0, [])
    monkeypatch.setattr(shared_check, "ARRIVAL_SECONDS", 0.3)
    with psycopg.connect(cells[1], autocommit=True) as client:
        client.execute(f"ALTER SUBSCRIPTION {replication.SUBSCRIPTION} DISABLE")
        client.execute("SET session_replication_role = replica")
        client.execute("UPDATE baskets_product SET price = 1, currency = 'EUR' WHERE product_id = 'shirt'")
    with psycopg.connect(cells[2]) as client:
        client.execute("UPDATE baskets_stock SET limited = false, reported = NULL WHERE product_id = 'shirt'")
    expected = {
        "limited_in_all_cells_or_none": [{"product": "shirt", "unlimited_in": [3]}],
        "cells_follow_the_publisher": [{"cell": 2, "publisher": 1}],
        "shared_rows_are_equal": [{"cell": 2, "table": "baskets_product", "key": "shirt"}],
    }
    eventually(lambda: {each["slug"]: each["examples"] for each in run("check_baskets", "--cells", "--json").data["findings"]} == expected)
