"""The stock take: many counts at once, previewed with what was sold since, all or nothing, and never over a change of supply."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.timezone import now

from baskets.domain import validation
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import guards, stock_repairs
from baskets.models import Stock, StockAdjustment
from tests.admin.conftest import Shop, post
from tests.domain.scenarios import available
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
ADDRESS = "/admin/baskets/product/stock-take/"


def body_of(response: Any) -> str:
    return html.unescape(re.sub(r"\s+", " ", response.content.decode()))


def hidden_in(response: Any) -> dict[str, str]:
    body = response.content.decode()
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', body)
    return {name: html.unescape(value) for name, value in fields if name != "csrfmiddlewaretoken"}


def rows_in(response: Any) -> list[list[str]]:
    table = body_of(response).partition("<tbody>")[2].partition("</tbody>")[0]
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[re.sub(r"<br>.*|<[^>]+>", "", cell).strip() for cell in row] for row in found]


def preview(client: Client, counts: str, **fields: Any) -> Any:
    opened = hidden_in(client.get(ADDRESS))
    return post(client, ADDRESS, {"counts": counts, "reason": "the yearly count", **opened, **fields})


def confirm(client: Client, shown: Any, **fields: Any) -> Any:
    text = re.search(r'<textarea name="counts"[^>]*>\s*(.*?)</textarea>', shown.content.decode(), re.DOTALL)
    assert text
    return post(client, ADDRESS, {"counts": html.unescape(text[1]), "reason": "the yearly count", **hidden_in(shown), **fields})


def test_counts_are_applied_with_what_was_sold_since(full_shop: Shop, root: Client) -> None:
    full_shop.product("mug", 4)
    counted_at = now()
    ann = full_shop.buyer("ann")
    ann.place("lamp", 1)
    ann.start()
    ann.finish(True)
    supply.adjust_supply(deltas={"mug": 2}, reason="a delivery", actor=TESTER)
    when = {"counted_at": f"{counted_at:%Y-%m-%d %H:%M:%S.%f}"}
    shown = preview(root, "lamp\t8\nmug\t3\nsong\t50\n", **when)
    assert rows_in(shown) == [
        ["lamp", "8", "1", "0", "2", "4", "5", ""],
        ["mug", "3", "0", "+2", "0", "6", "5", ""],
        ["song", "50", "0", "0", "0", "unlimited", "50", "becomes limited"],
    ]
    assert available("lamp") == (4, 0)
    before = StockAdjustment.objects.count()
    assert confirm(root, shown, **when).status_code == 302
    assert (available("lamp"), available("mug")) == ((5, 0), (5, 0))
    rows = StockAdjustment.objects.order_by("pk")[before:]
    assert {(row.product_id, row.reason, row.actor) for row in rows if row.kind == "unsold"} == {
        (product_id, "the yearly count", "root") for product_id in ("lamp", "mug", "song")
    }
    assert invariant_checker.check_invariants() == []


def test_sales_between_preview_and_confirmation_change_nothing_of_the_outcome(shop: Shop, root: Client) -> None:
    shop.product("lamp", 10)
    shown = preview(root, "lamp,8")
    buyer = shop.buyer("ann")
    buyer.place("lamp", 3)
    buyer.start()
    buyer.finish(True)
    assert confirm(root, shown).status_code == 302
    assert available("lamp") == (5, 0)
    assert invariant_checker.check_invariants() == []


def test_a_file_is_previewed_as_text_and_confirmed_without_the_file(shop: Shop, root: Client) -> None:
    shop.product("=cmd", 1)
    shop.product("a;b", 1)
    file = SimpleUploadedFile("count.csv", '\ufeffproduct_id;name;counted\n"\'=cmd";x;7\n"a;b";y;\n'.encode())
    shown = preview(root, "", file=file)
    assert "Rows without a number, left out: 1." in body_of(shown)
    assert [row[:2] for row in rows_in(shown)] == [["=cmd", "7"]]
    assert confirm(root, shown).status_code == 302
    assert (available("=cmd"), available("a;b")) == ((7, 0), (1, 0))


def test_a_change_of_supply_since_the_preview_is_named_and_nothing_is_applied(shop: Shop, root: Client) -> None:
    shop.product("lamp", 10)
    shop.product("mug", 10)
    shown = preview(root, "lamp,8\nmug,9")
    supply.adjust_supply(deltas={"mug": 5}, reason="a delivery", actor=TESTER)
    refused = confirm(root, shown)
    assert refused.status_code == 409
    assert "The record has changed since it was shown. Nothing was done." in body_of(refused)
    assert re.search(r'<bdi class="given">mug</bdi>: \w', body_of(refused))
    assert (available("lamp"), available("mug")) == ((10, 0), (15, 0))
    assert confirm(root, refused).status_code == 302
    assert confirm(root, refused).status_code == 409, "sent twice"
    assert (available("lamp"), available("mug")) == ((8, 0), (14, 0))
    assert StockAdjustment.objects.filter(reason="the yearly count").count() == 2


def test_changed_values_are_previewed_again(shop: Shop, root: Client) -> None:
    shop.product("lamp", 10)
    shown = preview(root, "lamp,8")
    again = confirm(root, shown, counts="lamp,7")
    assert (again.status_code, rows_in(again)[0][1]) == (200, "7")
    for forged in ({"versions": ""}, {"versions": "x"}, {"versions": "1 2"}, {"versions": "9" * 30}):
        assert confirm(root, shown, **forged).status_code == 409
    assert available("lamp") == (10, 0)


@pytest.mark.measured
@pytest.mark.parametrize(
    ("counts", "fields", "sentence"),
    [
        ("", {}, "Paste the counts, or choose a file; one of the two."),
        ("lamp,8", {"file": SimpleUploadedFile("c.csv", b"lamp,7")}, "Paste the counts, or choose a file; one of the two."),
        ("lamp,8\nmug,1\nmug,2", {}, "Line 3: product_id 'mug' is on line 2 already."),
        ("lamp,8\ngone,1", {}, "These products do not exist: gone."),
        ("lamp,8", {"counted_at": "2999-01-01 00:00"}, "is in the future"),
        ("lamp,8", {"counted_at": "2020-01-01 00:00"}, "Reports of a later time exist of these products: lamp. Count them again."),
        ("lamp,8", {"reason": ""}, "Choose a reason or write one."),
        ("lamp,8\x00", {}, "Null characters are not allowed."),
        ("lamp,8\n" + "\n".join(f"p{n},1" for n in range(1001)), {}, "Line 1001: more than 1000 products; split the count."),
    ],
)
def test_what_cannot_be_applied_is_refused_with_its_reason(
    counts: str, fields: dict[str, Any], sentence: str, shop: Shop, root: Client, stored_rows: Callable[[], Any]
) -> None:
    shop.product("lamp", 10)
    shop.product("mug", 10)
    root.get(ADDRESS)
    before = stored_rows()
    shown = preview(root, counts, **fields)
    assert sentence in body_of(shown)
    assert 'name="confirm"' not in body_of(shown)
    assert stored_rows() == before


def test_the_page_needs_the_permission_of_the_repair(shop: Shop, root: Client, viewer: Client, sign_in: Callable[..., Client]) -> None:
    shop.product("lamp", 10)
    may = sign_in("eva", permissions="repair_set_unsold")
    for client, code in ((root, 200), (viewer, 403), (may, 403)):
        assert client.get(ADDRESS).status_code == code
    for client, shown in ((root, True), (viewer, False), (may, False)):
        assert (ADDRESS in client.get("/admin/").content.decode()) is shown
    assert root.put(ADDRESS).status_code in (403, 405)


def test_a_preview_takes_as_many_statements_for_thirty_products_as_for_one(shop: Shop, root: Client) -> None:
    for number in range(30):
        shop.product(f"p-{number}", 5)
    counts = []
    for number in (1, 30):
        text = "\n".join(f"p-{place},4" for place in range(number))
        opened = hidden_in(root.get(ADDRESS))
        with CaptureQueriesContext(connection) as queries:
            root.post(ADDRESS, {"csrfmiddlewaretoken": root.cookies["csrftoken"].value, "counts": text, "reason": "x", **opened})
        counts.append(len(queries))
    assert counts[0] == counts[1] <= 26


def take_stock(**values: Any) -> None:
    with transaction.atomic():
        stock_repairs.take_stock(**values)


def test_the_domain_refuses_what_no_page_sends(shop: Shop) -> None:
    shop.product("lamp", 10)
    call: dict[str, Any] = {"as_of": now(), "expected_adjustments": {}, "reason": "x", "actor": TESTER}
    for counts in ({}, {f"p{n}": 1 for n in range(stock_repairs.MAX_COUNTED_PRODUCTS + 1)}):
        with pytest.raises(guards.RepairNotApplicable, match="1 to 1000 products"):
            take_stock(counts=counts, **call)
    with pytest.raises(validation.ReasonRequired):
        take_stock(counts={"lamp": 1}, **call | {"reason": " "})
    with pytest.raises(guards.RepairNotApplicable, match=r"do not exist: p0, .*, p9 and 5 more\."):
        take_stock(counts={f"p{n}": 1 for n in range(15)}, **call)
    with pytest.raises(guards.StaleState):
        take_stock(counts={"lamp": 1}, **call)
    assert Stock.objects.get().available == 10


def test_a_later_report_of_one_product_keeps_all_as_they_are(shop: Shop) -> None:
    shop.product("lamp", 10)
    shop.product("mug", 10)
    Stock.objects.filter(pk="mug").update(reported_as_of=now() - timedelta(hours=2))
    versions = stock_repairs.last_adjustments(["lamp", "mug"])
    with pytest.raises(guards.RepairNotApplicable, match="lamp"):
        take_stock(counts={"lamp": 1, "mug": 1}, as_of=now() - timedelta(hours=1), expected_adjustments=versions, reason="x", actor=TESTER)
    assert (available("lamp"), available("mug")) == ((10, 0), (10, 0))
