"""Test keys: the products of the sandbox do what the guide says, and nothing of a sandbox is seen, sold or counted elsewhere."""

import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from baskets.api.views import guides
from baskets.domain.access import api_keys, partners
from baskets.domain.events import activity, feed, refused_calls, webhook_endpoints
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import sandbox_catalog, supply
from baskets.domain.support import key_misuse, sandboxes
from baskets.models import (
    Attention,
    Basket,
    CheckoutSession,
    Partner,
    PartnerActivity,
    Product,
    ProductActivity,
    RefusalActivity,
    Stock,
    StockAdjustment,
    StockReservation,
    WebhookBlockedBasket,
    WebhookEndpoint,
)
from baskets.models.products import is_sandbox_product
from tests.api.conftest import Api
from tests.concurrency.barrier import run_concurrently
from tests.factories import TESTER, ProductFactory
from tests.project.documents import coded, fenced, rows
from tests.time_travel import age_basket

GUIDE = guides.FOLDER / "testing.md"
START, FINISH = "/baskets/users/ada/checkout/sessions", "/baskets/users/ada/checkout/sessions/finish-active"
UNKNOWN = (404, 404, "product_unknown")


@pytest.fixture
def sandbox(partner: Partner) -> Partner:
    return sandboxes.open_sandbox(partner_name=partner.name, actor=TESTER)


@pytest.fixture
def live(partner: Partner) -> Api:
    return Api(api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)[1])


@pytest.fixture
def test_api(sandbox: Partner) -> Api:
    return Api(api_keys.issue_api_key(partner_name=sandbox.name, actor=TESTER)[1])


def put(api: Api, product_id: str, count: int = 1) -> Any:
    return api.request("POST", f"/baskets/users/ada/products/{product_id}", {"count": count})


# --- The guide ----------------------------------------------------------------


def test_guide_lists_every_product() -> None:
    assert [coded(row[0])[0] for row in rows(GUIDE, "Product")] == list(sandbox_catalog.PRODUCTS)


@pytest.mark.django_db(transaction=True)
def test_program_of_the_guide_passes_twice(partner: Partner, live_server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = sandboxes.open_sandbox(partner_name=partner.name, actor=TESTER)
    monkeypatch.setenv("KEY", api_keys.issue_api_key(partner_name=sandbox.name, actor=TESTER)[1])
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        newest = CheckoutSession.objects.latest("pk")
        age_basket(newest.basket_id, timedelta(seconds=seconds))

    monkeypatch.setattr(time, "sleep", sleep)
    (code,) = fenced(GUIDE, "python")
    program = compile(code.replace(guides.EXAMPLE_URL, live_server.url), str(GUIDE), "exec")
    for _ in range(2):
        names: dict[str, Any] = {}
        exec(program, names)  # noqa: S102 (our own document)
        # An open connection would keep a thread of the server, and its connection to the database.
        names["session"].close()
    assert slept == [6, 6]
    assert invariant_checker.check() == []


def test_reasons_that_a_product_provokes_refer_to_the_guide() -> None:
    provoked = {reason for row in rows(GUIDE, "Product") for reason in re.findall(r"\d{3} `(\w+)`", row[2])}
    assert provoked == {"out_of_stock", "busy"}
    pages = (Path(guides.FOLDER) / "errors.md").read_text().split("\n## ")
    referring = {page.split("`")[1] for page in pages if "(testing.md)" in page}
    assert referring == provoked


# --- What a product does ------------------------------------------------------


@pytest.mark.parametrize(
    ("product_id", "count", "status", "stocked"),
    [
        ("sandbox-plenty", 999, 200, 999),
        ("sandbox-unlimited", 3, 200, None),
        ("sandbox-last-one", 1, 200, 1),
        ("sandbox-last-one", 3, 422, None),
        ("sandbox-sold-out", 1, 422, None),
        ("sandbox-unlisted", 1, 422, None),
        ("sandbox-short-hold", 1, 200, 1),
        ("sandbox-gone-late", 1, 200, 1),
        ("sandbox-busy-once", 1, 503, None),
    ],
)
def test_start_of_each_product(test_api: Api, product_id: str, count: int, status: int, stocked: int | None) -> None:
    assert put(test_api, product_id, count).status == 200
    started = test_api.request("POST", START)
    assert started.status == status
    if status == 200:
        assert started.data["basket"]["checkout"][0]["stocked"] == stocked


def test_other_products_of_the_cart_are_bought(test_api: Api) -> None:
    for product_id, count in {"sandbox-plenty": 2, "sandbox-last-one": 3, "sandbox-sold-out": 1, "sandbox-unlisted": 1}.items():
        put(test_api, product_id, count)
    checkout = test_api.request("POST", START).data["basket"]["checkout"]
    assert [item["stocked"] for item in checkout] == [2, -2, -1, -1]
    basket = test_api.request("POST", FINISH, {"ordered": True}).data
    assert [item["count"] for item in basket["cart"]] == [3, 1, 1]


def test_last_piece_is_there_for_every_checkout(test_api: Api) -> None:
    for _ in range(2):
        put(test_api, "sandbox-last-one")
        assert test_api.request("POST", START).status == 200
        assert test_api.request("POST", FINISH, {"ordered": True}).status == 200
    details = test_api.request("POST", "/baskets/products/details", ["sandbox-last-one", "sandbox-sold-out", "sandbox-unlimited"]).data
    assert [(found["currentStockCount"], found["outOfStock"]) for found in details["products"]] == [(1, False), (0, True), (None, False)]


def test_accepted_late_order_is_short(test_api: Api, sandbox: Partner) -> None:
    Partner.objects.filter(pk=sandbox.pk).update(late_orders=Partner.LateOrders.ACCEPT)
    put(test_api, "sandbox-gone-late", 2)
    put(test_api, "sandbox-plenty")
    order_no = test_api.request("POST", START).data["orderNo"]
    test_api.request("POST", FINISH, {"ordered": False})
    assert test_api.request("POST", FINISH, {"ordered": True, "orderNo": order_no}).status == 200
    items = test_api.request("GET", f"{START}/{order_no}").data["items"]
    assert [(item["sold"], item["short"]) for item in items] == [(0, 2), (1, 0)]
    assert invariant_checker.check_invariants() == []


def test_each_cart_is_busy_once(test_api: Api) -> None:
    put(test_api, "sandbox-busy-once")
    key = {"Idempotency-Key": "start-1"}
    busy = test_api.request("POST", START, **key)
    assert (busy.refusal, busy.headers["Retry-After"]) == ((503, 503, "busy"), "1")
    assert test_api.request("POST", START, **key).status == 200
    test_api.request("POST", FINISH, {"ordered": False})
    assert [test_api.request("POST", START).status for _ in range(2)] == [503, 200]


def test_stock_that_tests_used_up_is_reported_again(test_api: Api) -> None:
    supply.set_unsold(reports={"sandbox-plenty": 1}, as_of=None, reason="used up", actor=TESTER)
    put(test_api, "sandbox-plenty", 2)
    assert test_api.request("POST", START).data["basket"]["checkout"][0]["stocked"] == 2
    assert Stock.objects.get(pk="sandbox-plenty").available == sandbox_catalog.AMPLE_STOCK - 2
    assert invariant_checker.check_invariants() == []


# --- Apart --------------------------------------------------------------------


def test_each_side_sees_its_own_products_only(test_api: Api, live: Api) -> None:
    ProductFactory(product_id="lamp", unsold=1)
    assert put(test_api, "lamp").refusal == put(live, "sandbox-plenty").refusal == UNKNOWN
    for api, own, other in ((test_api, "sandbox-plenty", "lamp"), (live, "lamp", "sandbox-plenty")):
        details = api.request("POST", "/baskets/products/details", ["lamp", "sandbox-plenty"]).data
        assert ([found["productId"] for found in details["products"]], details["unknown"]) == ([own], [other])
        guest = api.request("POST", "/baskets/guests", {"products": [{"productId": other}]})
        assert guest.refusal == UNKNOWN
        assert api.request("POST", "/baskets/guests", {"products": [{"productId": own}]}).status == 200
    assert Basket.objects.filter(user_id="ada").count() == 0


def test_user_of_both_has_two_baskets_and_real_stock_is_untouched(test_api: Api, live: Api, sandbox: Partner, partner: Partner) -> None:
    ProductFactory(product_id="lamp", unsold=1)
    put(live, "lamp")
    put(test_api, "sandbox-plenty")
    test_api.request("POST", START)
    test_api.request("POST", FINISH, {"ordered": True})
    assert [item["productId"] for item in live.request("GET", "/baskets/users/ada").data["cart"]] == ["lamp"]
    assert live.request("POST", START).status == 200
    assert {basket.partner_id for basket in Basket.objects.filter(user_id="ada")} == {partner.pk, sandbox.pk}
    assert not [hold for hold in StockReservation.objects.exclude(product_id="lamp") if not is_sandbox_product(hold.product_id)]
    assert [row["userId"] for row in live.request("GET", "/baskets").body["data"]] == ["ada"]
    assert invariant_checker.check_invariants() == []


@pytest.mark.django_db(transaction=True)
def test_nothing_of_a_sandbox_is_counted_or_work_for_staff(partner: Partner, settings: Any) -> None:
    sandbox = sandboxes.open_sandbox(partner_name=partner.name, actor=TESTER)
    api = Api(api_keys.issue_api_key(partner_name=sandbox.name, actor=TESTER)[1])
    refused_calls._counts.clear()  # Of other tests.
    put(api, "sandbox-gone-late")
    api.request("POST", START)
    api.request("POST", FINISH, {"ordered": False})
    assert api.request("POST", FINISH, {"ordered": True}).refusal == (422, 422, "checkout_aborted")
    put(api, "sandbox-plenty")
    api.request("POST", START)
    webhook, _ = webhook_endpoints.create_webhook(partner_name=sandbox.name, url="https://shop.example.com/", actor=TESTER)
    WebhookEndpoint.objects.filter(pk=webhook.pk).update(state="dead")
    WebhookBlockedBasket.objects.create(
        endpoint=webhook, basket=Basket.objects.get(), position=1, failures=1, failing_since=timezone.now(), next_try_at=timezone.now()
    )
    activity.count_events()
    refused_calls.write_counts()
    assert not PartnerActivity.objects.exists()
    assert not ProductActivity.objects.exists()
    assert not RefusalActivity.objects.filter(reason="checkout_aborted").exists()
    assert (Attention.objects.open().count(), Attention.objects.open().live().count()) == (1, 0)
    assert key_misuse.find_unusual_keys() == []
    assert invariant_checker.check() == []
    settings.BASKETS_METRICS_TOKEN = "a-token-of-the-operator"
    scraped = Client().get("/metrics", headers={"Authorization": "Bearer a-token-of-the-operator"}).content.decode()
    for name in ("attention_open", "webhook_lag_seconds", "webhook_blocked_baskets", "webhooks_given_up", "keys_unlike_others"):
        assert f"\nbaskets_{name} 0.0\n" in scraped, name


@pytest.mark.django_db(transaction=True)
def test_parallel_callers_of_a_sandbox_each_get_what_the_product_promises(partner: Partner) -> None:
    """Eight users buy everything at once, while the stock behind is nearly used up: no caller sees another one."""
    sandbox = sandboxes.open_sandbox(partner_name=partner.name, actor=TESTER)
    supply.set_unsold(reports=dict.fromkeys(["sandbox-plenty", "sandbox-last-one"], 3), as_of=None, reason="used up", actor=TESTER)
    text = api_keys.issue_api_key(partner_name=sandbox.name, actor=TESTER)[1]

    cart = {"sandbox-plenty": 1, "sandbox-last-one": 1, "sandbox-sold-out": -1}

    def buy(number: int) -> list[Any]:
        api, user = Api(text), f"/baskets/users/user-{number}"
        seen: list[Any] = []
        for ordered in (True, False):
            for product_id in cart:
                api.request("POST", f"{user}/products/{product_id}", {"count": 1})
            started = api.request("POST", f"{user}/checkout/sessions").data["basket"]["checkout"]
            seen.append({item["productId"]: item["stocked"] for item in started})
            seen.append(api.request("POST", f"{user}/checkout/sessions/finish-active", {"ordered": ordered}).status)
        api.request("POST", f"{user}/products/sandbox-busy-once", {"count": 1})
        return [*seen, *(api.request("POST", f"{user}/checkout/sessions").status for _ in range(2))]

    assert run_concurrently([lambda number=number: buy(number) for number in range(8)]) == [[cart, 200, cart, 200, 503, 200]] * 8
    assert CheckoutSession.objects.filter(status="ORDERED").count() == 8
    assert invariant_checker.check() == []


def test_events_of_a_sandbox_say_so(test_api: Api, live: Api) -> None:
    ProductFactory(product_id="lamp")
    put(test_api, "sandbox-plenty")
    put(live, "lamp")
    feed.assign_positions()
    seen = [[event.get("sandbox") for event in api.request("GET", "/baskets/events").body["data"]] for api in (test_api, live)]
    assert seen == [[True], [None]]


def test_checker_finds_a_product_on_the_wrong_side(test_api: Api, sandbox: Partner) -> None:
    put(test_api, "sandbox-plenty")
    assert invariant_checker.check_invariants() == []
    Partner.objects.filter(pk=sandbox.pk).update(sandbox_of=None)
    assert [found.invariant.slug for found in invariant_checker.check_invariants()] == ["sandbox_is_apart"]


# --- Keys and the sandbox itself ----------------------------------------------


def test_test_key_can_be_recognised_is_limited_and_revoked(sandbox: Partner, partner: Partner) -> None:
    key, text = api_keys.issue_api_key(partner_name=sandbox.name, actor=TESTER)
    assert text.startswith("bk_test")
    assert key.calls_per_minute == api_keys.TEST_CALLS_PER_MINUTE
    assert api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)[0].calls_per_minute is None
    api = Api(text)
    assert api.request("GET", "/baskets/users/ada").status == 200
    api_keys.revoke_api_key(prefix=key.prefix, reason="tested", actor=TESTER)
    assert api.request("GET", "/baskets/users/ada").refusal == (401, 401, "api_key_invalid")


def test_sandbox_begins_with_the_settings_of_its_partner(stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    partners.create_partner(name="nova", late_orders="accept", hold_seconds=60, share_percent=0, orders_need_server_key=True, actor=TESTER)
    partners.allow_origins(partner_name="nova", origins=["https://a.example"], actor=TESTER)
    sandbox = sandboxes.open_sandbox(partner_name="nova", actor=TESTER)
    assert (sandbox.name, sandbox.late_orders, sandbox.hold_seconds, sandbox.share_percent) == ("nova (sandbox)", "accept", 60, 0)
    assert (sandbox.orders_need_server_key, sandbox.origins) == (True, ["https://a.example"])
    before = stored_rows()
    assert sandboxes.open_sandbox(partner_name="nova", actor=TESTER) == sandbox
    assert sandboxes.open_sandbox(partner_name="nova (sandbox)", actor=TESTER) == sandbox
    assert stored_rows() == before
    assert Product.objects.count() == StockAdjustment.objects.count() + 1 == len(sandbox_catalog.PRODUCTS)  # One is unlimited.
