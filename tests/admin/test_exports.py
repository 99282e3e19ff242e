"""What a list shows as a file: the same rows and columns, harmless in a spreadsheet, and recorded by the name of who took it."""

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from baskets.admin import exports
from baskets.models import DeskEntry
from tests.admin.conftest import Shop, token
from tests.admin.test_access import MODELS, list_of

pytestmark = pytest.mark.django_db
FORMULAS = ("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1", " =1")


def export(client: Client, model: str, query: str = "") -> Any:
    address = reverse(f"admin:baskets_{model}_export")
    listed = reverse(f"admin:baskets_{model}_changelist")
    return client.post(f"{address}?{query}", {"csrfmiddlewaretoken": token(client, listed)})


def rows_of(response: Any) -> list[list[str]]:
    assert response.status_code == 200
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(response.content.decode("utf-8-sig"))))


def test_a_file_holds_what_the_list_shows(full_shop: Shop, root: Client) -> None:
    rows = rows_of(export(root, "basket", "q=be"))
    assert rows[0] == ["User", "Partner", "State", "Cart", "Saved", "Checkout", "Changed", "Expires"]
    assert [row[:5] for row in rows[1:]] == [["ben", full_shop.partner.name, "shown", "2", "0"]]
    assert rows[1][6].endswith("+00:00")
    entry = DeskEntry.objects.get()
    assert (entry.kind, entry.about, entry.actor, entry.data) == ("exported", "basket", "root", {"rows": 1, "asked": {"q": "be"}})


def test_nothing_in_a_file_is_a_formula(shop: Shop, root: Client) -> None:
    for number, text in enumerate(FORMULAS):
        shop.product(f"{text}-{number}", name=text, brand=text)
    shop.product("long", name="x" * 500)
    rows = rows_of(export(root, "product"))
    assert len(rows) == len(FORMULAS) + 2
    for cell in (cell for row in rows for cell in row):
        assert not exports.FORMULA.match(cell) or exports.NUMBER.fullmatch(cell), cell
    assert "x" * 500 in {row[1] for row in rows}


def test_an_export_is_remembered_when_the_account_is_gone(full_shop: Shop, root: Client) -> None:
    export(root, "basket")
    User.objects.get(username="root").delete()
    assert DeskEntry.objects.get().actor == "root"


def test_a_file_has_an_end(monkeypatch: pytest.MonkeyPatch, full_shop: Shop, root: Client) -> None:
    monkeypatch.setattr(exports, "MOST_EXPORTED", 2)
    assert len(rows_of(export(root, "basket"))) == 3


@pytest.mark.parametrize("model", MODELS)
def test_every_list_can_be_exported_by_who_may(
    model: Any, full_shop: Shop, viewer: Client, sign_in: Callable[..., Client], stranger: Client, everything_stored: Callable[[], Any]
) -> None:
    address = list_of(model) + "export/"
    may = sign_in("eva", permissions="export_")
    before = everything_stored()
    for client, code in ((viewer, 403), (may, 403), (stranger, 302)):
        client.cookies["csrftoken"] = "a" * 32
        assert client.post(address, {"csrfmiddlewaretoken": "a" * 32}).status_code == code
    User.objects.get(username="eva").user_permissions.add(*User.objects.get(username="vera").user_permissions.all())
    assert may.get(address).status_code == 405
    assert may.post(address).status_code == 403
    assert may.post(f"{address}?digest__regex=x", {"csrfmiddlewaretoken": "a" * 32}).status_code in (400, 404)
    assert everything_stored() == before
    assert rows_of(may.post(address, {"csrfmiddlewaretoken": "a" * 32}))[0]
    assert DeskEntry.objects.filter(kind="exported", actor="eva").count() == 1
