"""What a list shows as a file: the data itself, harmless in a spreadsheet, and recorded by the name of who took it."""

import csv
import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from baskets.admin.core import display, exports
from baskets.domain import audit_log
from baskets.domain.spreadsheets import escape_formulas
from baskets.domain.stock import catalog, catalog_file
from baskets.models import DeskEntry, Product
from tests.admin.auth.test_access import MODELS, list_of
from tests.admin.conftest import Shop, token
from tests.domain.stock.test_product_ids import VALID
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", " =1", "x;=1+1;y", "x\t=1+1", "a\n=1", ';"=1+1;')
NAMES = (
    *FORMULAS,
    *("two\r\nlines", "two\nlines", '"quoted"', "it's", "'", "'=1", "''-1", " blanks ", "a\u200bb", "a\u202eb"),
    *("<b>&amp;</b>", "<br>", "-5", "\N{EN DASH}", "None", "a,b;c|d", "\u2028", "\ufeffa", "e\u0301", "\U0001f381", "\\N", "x" * 500),
)


def export(client: Client, model: str, query: str = "") -> Any:
    address = reverse(f"admin:baskets_{model}_export")
    listed = reverse(f"admin:baskets_{model}_changelist")
    return client.post(f"{address}?{query}", {"csrfmiddlewaretoken": token(client, listed)})


def rows_of(response: Any) -> list[list[str]]:
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(response.content.decode("utf-8-sig"))))


def test_a_file_holds_what_the_list_shows(full_shop: Shop, root: Client) -> None:
    rows = rows_of(export(root, "basket", "q=be&checkout=none&basket=be"))
    assert rows[0] == ["User", "Partner", "State", "Cart", "Saved", "Checkout", "Changed", "Expires"]
    assert [row[:5] for row in rows[1:]] == [["ben", full_shop.partner.name, "open", "2", "0"]]
    assert rows[1][6].endswith("+00:00")
    entry, digest = DeskEntry.objects.get(), audit_log.digest("be")
    data = {"rows": 1, "asked": {"q": digest, "checkout": "none", "basket": digest}}
    assert (entry.kind, entry.about, entry.actor, entry.data) == ("exported", "basket", "root", data)


@pytest.mark.parametrize(("query", "in_force"), [("", "open"), ("matter=settled", "settled"), ("matter=all", "all"), ("matter=x", "open")])
def test_an_export_records_the_filter_that_the_address_does_not_name(full_shop: Shop, root: Client, query: str, in_force: str) -> None:
    export(root, "attention", query)
    assert DeskEntry.objects.get().data["asked"] == {"matter": in_force}
    words = {"settled": "resolved"}.get(in_force, in_force)
    assert f"flag: {words}" in root.get(reverse("admin:baskets_deskentry_changelist")).content.decode()


def test_who_exported_by_a_search_is_found_and_the_text_is_not_stored(full_shop: Shop, root: Client) -> None:
    export(root, "basket", "q=ben&last_changed_at_from=2026-01-01T00:00&last_changed_at_until=ben")
    assert audit_log.digest("ben") != audit_log.digest("ann")
    stored = DeskEntry.objects.get().data
    digest = audit_log.digest("ben")
    assert stored == {"rows": 1, "asked": {"q": digest, "last_changed_at_from": "2026-01-01T00:00", "last_changed_at_until": digest}}
    journal = reverse("admin:baskets_deskentry_changelist")
    assert root.get(f"{journal}?q=ben").context["cl"].result_count == 1
    assert root.get(f"{journal}?q=ann").context["cl"].result_count == 0


def test_nothing_in_a_file_is_a_formula_whatever_the_separator(shop: Shop, root: Client) -> None:
    for number, text in enumerate(FORMULAS):
        shop.product(f"-{number}=1", name=text, brand=text)
    response = export(root, "product")
    assert len(rows_of(response)) == len(FORMULAS) + 1
    text = response.content.decode("utf-8-sig")
    assert '"x;\'=1+1;y"' in text
    for separator in ",;\t":
        for cell in text.replace("\r", "\n").replace(separator, "\n").split("\n"):
            assert not re.match(r"""[\s"]*[=+\-@\uff1d](?!\d+"*$)""", cell), cell


def test_every_cell_is_quoted(full_shop: Shop, root: Client) -> None:
    for line in export(root, "product").content.decode("utf-8-sig").splitlines():
        assert re.fullmatch(r'"[^"]*"(,"[^"]*")*', line), line


@pytest.mark.django_db(transaction=True)
def test_an_export_of_the_catalog_is_imported_again_to_the_letter(shop: Shop, root: Client) -> None:
    for number, product_id in enumerate(VALID):
        name = NAMES[number % len(NAMES)]
        shop.product(product_id, name=name, brand=name[:255], main_product_id=product_id, price=None, currency="")
    for number, name in enumerate(NAMES):
        shop.product(f"p{number}", number, name=name, brand=name[:255], variant=name[:255], price=number, currency="EUR", listed=False)
    before = list(Product.objects.order_by("pk").values())
    file = export(root, "product").content
    found = catalog_file.read_catalog(io.BytesIO(file), name="product.csv")
    assert found.problems == []
    assert len(found.rows) == len(before)
    done = catalog.import_products(rows=found.rows, as_of=None, reason="import", actor=TESTER)
    assert (done.created, done.changed, done.unchanged) == (0, 0, len(before))
    with transaction.atomic(), connection.cursor() as cursor:  # Without the trigger that keeps products.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("DELETE FROM baskets_product WHERE product_id = ANY(%s)", [list(VALID)])
    Product.objects.update(name="other", brand="", variant="", main_product_id="", price=None, currency="", listed=True)
    catalog.import_products(rows=found.rows, as_of=None, reason="import", actor=TESTER)
    when = {"created_at", "updated_at"}
    after = list(Product.objects.order_by("pk").values())
    assert [{name: row[name] for name in row.keys() - when} for row in after] == [
        {name: row[name] for name in row.keys() - when} for row in before
    ]


def test_an_export_of_the_catalog_has_the_columns_of_the_import(shop: Shop, root: Client) -> None:
    shop.product("a", 3, main_product_id="m", brand="B", variant="M")
    shop.product("b", price=None, currency="", listed=False)
    assert rows_of(export(root, "product")) == [
        ["product_id", "name", "brand", "variant", "main_product_id", "price", "currency", "listed", "available"],
        ["a", "Name of a", "B", "M", "m", "1999", "EUR", "true", "3"],
        ["b", "Name of b", "", "", "", "", "", "false", "unlimited"],
    ]


def test_other_files_hold_the_data_itself_as_well(shop: Shop, root: Client) -> None:
    shop.product("a b", 3)
    shop.product("-1", 4)
    shop.buyer(" \u200b=x;=y ").place("a b")
    assert [row[0] for row in rows_of(export(root, "stock"))] == ["Product", "-1", "a b"]
    assert rows_of(export(root, "basket"))[1][0] == " \u200b=x;'=y "


@given(st.text(st.sampled_from("<>&;#ab'\"= \r\n\t\u200b\N{EN DASH}"), max_size=20))
def test_a_value_in_a_file_is_the_value_and_its_guard(text: str) -> None:
    with display.for_files():
        assert exports.as_text(display.visible(text, limit=3)) == escape_formulas(text)


def test_an_export_is_remembered_when_the_account_is_gone(full_shop: Shop, root: Client) -> None:
    export(root, "basket")
    User.objects.get(username="root").delete()
    assert DeskEntry.objects.get().actor == "root"


def test_a_file_has_an_end(monkeypatch: pytest.MonkeyPatch, full_shop: Shop, root: Client) -> None:
    monkeypatch.setattr(exports, "MAX_EXPORTED_ROWS", 2)
    assert len(rows_of(export(root, "basket"))) == 3


@pytest.mark.parametrize("model", MODELS)
def test_every_list_can_be_exported_by_who_may(
    model: Any, full_shop: Shop, viewer: Client, sign_in: Callable[..., Client], anonymous: Client, stored_rows: Callable[[], Any]
) -> None:
    address = list_of(model) + "export/"
    may = sign_in("eva", permissions="export_")
    before = stored_rows()
    for client, code in ((viewer, 403), (may, 403), (anonymous, 302)):
        client.cookies["csrftoken"] = "a" * 32
        assert client.post(address, {"csrfmiddlewaretoken": "a" * 32}).status_code == code
    User.objects.get(username="eva").user_permissions.add(*User.objects.get(username="vera").user_permissions.all())
    assert may.get(address).status_code == 405
    assert may.post(address).status_code == 403
    assert may.post(f"{address}?digest__regex=x", {"csrfmiddlewaretoken": "a" * 32}).status_code in (400, 404)
    assert stored_rows() == before
    assert rows_of(may.post(address, {"csrfmiddlewaretoken": "a" * 32}))[0]
    assert DeskEntry.objects.filter(kind="exported", actor="eva").count() == 1
