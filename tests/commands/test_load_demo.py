"""`load_demo`: what it prints once, what a second start leaves alone, and a curl that works every time."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import authenticate

from baskets.domain.access import api_keys
from baskets.domain.maintenance import demo_data, invariant_checker
from baskets.models import ApiKey, Partner, Product, StockAdjustment
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.conftest import Log
from tests.domain.scenarios import User

pytestmark = pytest.mark.django_db(transaction=True)


def user() -> User:
    return User(Owner(partner_id=Partner.objects.get(name=demo_data.PARTNER).pk, user_id=demo_data.USER_ID))


def test_the_first_start_tells_its_secrets_and_they_work(run: Run, log: Log) -> None:
    done = run("load_demo", "--json")
    data = done.data
    # The log has the new administrator, and no secret.
    [line] = log.lines("rights_changed")
    assert (done.code, line["given"], data["admin_password"] in log.text) == (0, ["is_active", "is_staff", "is_superuser"], False)
    assert [json.loads(line)["event"] for line in done.err.splitlines()] in (["rights_changed"], [])
    assert sorted(data) == ["admin_password", "admin_user", "api_key", "order_no", "test_api_key", "user_id"]
    assert data["test_api_key"].startswith("bk_test")
    key = ApiKey.objects.valid().get(partner__sandbox_of__isnull=True)
    assert (key.kind, bytes(key.digest)) == ("server", api_keys.digest_key(data["api_key"]))
    staff = authenticate(username=data["admin_user"], password=data["admin_password"])
    assert staff is not None
    assert staff.is_superuser  # type: ignore[attr-defined] # The default user model is in use.
    assert user().lists() == {
        "cart": [("demo-cookbook", 1)],
        "saved": [("demo-record", 1), ("demo-scarf", 1)],
        "checkout": [("demo-mug", 2, 2), ("demo-soundtrack", 1, None)],
    }
    assert invariant_checker.check() == []


def test_a_second_start_adds_nothing(run: Run, stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    first = run("load_demo", "--json").data
    before = stored_rows()
    second = run("load_demo", "--json").data
    assert second == first | {"api_key": None, "test_api_key": None, "admin_password": None}
    assert stored_rows() == before


def test_new_secrets_are_made_on_request(run: Run) -> None:
    first = run("load_demo", "--json").data
    second = run("load_demo", "--json", "--new-api-key", "--new-test-api-key", "--new-admin-password").data
    assert second["test_api_key"] not in (None, first["test_api_key"])
    assert second["api_key"] not in (None, first["api_key"])
    assert authenticate(username="admin", password=first["admin_password"]) is None
    assert authenticate(username="admin", password=second["admin_password"]) is not None
    assert ApiKey.objects.valid().count() == 4


@pytest.mark.parametrize("ordered", [True, False])
def test_a_finished_checkout_is_followed_by_a_fresh_one_and_no_stock_is_added(run: Run, ordered: bool) -> None:
    first = run("load_demo", "--json").data
    supply = StockAdjustment.objects.count()
    user().finish(ordered=ordered)
    second = run("load_demo", "--json").data
    assert second["order_no"] not in (None, first["order_no"])
    assert StockAdjustment.objects.count() == supply
    assert ("demo-mug", 2, 2) in user().lists()["checkout"]
    assert invariant_checker.check() == []


def test_a_lapsed_checkout_is_followed_by_a_fresh_one(run: Run) -> None:
    first = run("load_demo", "--json").data
    user().wait(hours=1)
    second = run("load_demo", "--json").data
    assert second["order_no"] not in (None, first["order_no"])


def test_it_starts_although_the_demo_is_sold_out(run: Run) -> None:
    run("load_demo", "--json")
    user().finish(ordered=True)
    Product.objects.update(listed=False)
    done = run("load_demo", "--json")
    assert (done.code, done.data["order_no"]) == (0, None)


def test_prose(run: Run) -> None:
    run("load_demo")
    done = run("load_demo")
    assert done.code == 0
    assert "issued before" in done.out
    assert "demo-anna" in done.out


def test_the_catalog_has_every_kind_of_product() -> None:
    demo_data.load_demo()
    rows = {row.product_id: row for row in demo_data.PRODUCTS}
    assert len(rows) == 12
    assert {row.stock for row in rows.values()} >= {None, 0}
    assert [row.product_id for row in rows.values() if row.listed is False] == ["demo-poster"]
    assert {row.main_product_id for row in rows.values() if row.main_product_id} == {"demo-raincoat"}
