"""One cell of several, over HTTP: it serves its own users and refuses others; guests and transfers have names that reach it."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from pytest_django import Settings

from baskets.api.protocol.metrics import SHORTAGES_OF_THIS_CELL
from baskets.domain import slots
from baskets.domain.cells.slot_division import claim_slots, divide, render_slot_map
from baskets.domain.checkout import expiry
from baskets.domain.stock import elsewhere
from baskets.domain.support import erasure
from baskets.models import Basket, Partner, StockElsewhere
from tests.api.conftest import Api, Issue, Sells, Unchanged
from tests.api.endpoints import ENDPOINTS, Endpoint
from tests.factories import TESTER, PartnerFactory
from tests.time_travel import age_all_rows

WRONG_CELL = (421, 404, "wrong_cell")
DIVISION = divide(2)
HERE = [slot for slot, cell in enumerate(DIVISION) if cell == 1]
OURS = next(name for name in map("user-{}".format, range(99)) if slots.slot_of(name) in HERE)
THEIRS = next(name for name in map("user-{}".format, range(99)) if slots.slot_of(name) not in HERE)


@pytest.fixture
def cell(settings: Settings, tmp_path: Path) -> None:
    """Make the service cell 1 of 2."""
    file = tmp_path / "slots.map"
    file.write_text(render_slot_map(DIVISION))
    settings.BASKETS_CELL, settings.BASKETS_SLOT_MAP = 1, str(file)


@pytest.mark.usefixtures("cell")
@pytest.mark.parametrize("endpoint", [endpoint for endpoint in ENDPOINTS if endpoint.of_a_user], ids=str)
def test_a_call_for_a_user_of_another_cell_is_refused_and_changes_nothing(
    endpoint: Endpoint, api: Api, sells: Sells, unchanged: Unchanged
) -> None:
    sells("p1")
    api.place("p1", user=OURS)
    unchanged()
    assert endpoint.call(api, user=THEIRS).refusal in {WRONG_CELL, (401, 2002, "token_missing")}


@pytest.mark.usefixtures("cell")
def test_users_of_a_partner_that_is_served_apart_belong_to_its_cells(
    api: Api, app: Api, partner: Partner, settings: Settings, sells: Sells, issue: Issue
) -> None:
    sells("p1")
    api.place("p1", user=OURS)
    before = list(Basket.objects.values())
    other = Api(issue(to=PartnerFactory()))

    def give(cell: int) -> None:
        Path(settings.BASKETS_SLOT_MAP).write_text(render_slot_map(DIVISION, partners={partner.pk: [cell] * slots.SLOTS}))
        slots._readers.clear()

    give(3)
    for user in (OURS, THEIRS):
        assert api.place("p1", 2, user=user).refusal == WRONG_CELL
    assert app.post("/baskets/guests").refusal == WRONG_CELL
    assert list(Basket.objects.values()) == before
    assert other.get(f"/baskets/users/{OURS}").status == 200
    give(1)
    for user in (OURS, THEIRS):
        assert api.get(f"/baskets/users/{user}").status == 200
    assert other.get(f"/baskets/users/{THEIRS}").refusal == WRONG_CELL
    offer = api.post(f"/baskets/users/{OURS}/transfer?qr=true", {"url": "https://shop.example/"}).data
    assert Client().get(f"/baskets/transfers/{offer['qrCodeImageUrl'].rpartition('/')[2]}").status_code == 200
    # The proxy knows the partner by its host name only: at the common one it would send the image to a shared cell.
    settings.BASKETS_PUBLIC_URL = "https://baskets.example.com"
    offer = api.post(f"/baskets/users/{OURS}/transfer?qr=true", {"url": "https://shop.example/"}).data
    assert offer["qrCodeImageUrl"].startswith("https://testserver/baskets/transfers/")


@pytest.mark.usefixtures("cell")
def test_a_cell_serves_its_own_users(api: Api, sells: Sells) -> None:
    sells("p1", unsold=1)
    api.place("p1", user=OURS)
    order_no = api.start(user=OURS).data["orderNo"]
    assert api.finish(True, order_no=order_no, user=OURS).status == 200


@pytest.mark.usefixtures("cell")
def test_a_start_that_finds_too_little_is_counted_where_other_cells_have_some(
    api: Api, sells: Sells, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "_known", {})
    for product_id, unsold in (("there", 1), ("nowhere", 1), ("here", None)):
        sells(product_id, unsold=unsold)
        api.place(product_id, 2 if unsold else 1, user=OURS)
    StockElsewhere.objects.bulk_create(
        StockElsewhere(product_id=product_id, available=pieces, read_at=datetime.now(UTC))
        for product_id, pieces in (("there", 5), ("nowhere", 0))
    )
    counted = SHORTAGES_OF_THIS_CELL._value.get()
    assert api.start(user=OURS).status == 200
    assert SHORTAGES_OF_THIS_CELL._value.get() == counted + 1
    api.finish(False, user=OURS)
    api.delete(f"/baskets/users/{OURS}/products/here")
    assert api.start(user=OURS).status == 422
    assert SHORTAGES_OF_THIS_CELL._value.get() == counted + 2
    with django_assert_num_queries(0):
        assert elsewhere.available_elsewhere(["there", "nowhere"]) == {"there"}


@pytest.mark.usefixtures("cell")
def test_a_revoked_key_learns_nothing_of_cells(api: Api, partner: Partner) -> None:
    assert api.get(f"/baskets/users/{THEIRS}").refusal == WRONG_CELL
    partner.api_keys.update(revoked_at=partner.created_at)
    assert api.get(f"/baskets/users/{THEIRS}").refusal == (401, 401, "api_key_invalid")


def test_without_cells_no_slot_is_computed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "slot_of", None)
    assert api.get(f"/baskets/users/{THEIRS}").status == 200
    assert api.post("/baskets/guests").status == 200


@pytest.mark.usefixtures("cell")
def test_guests_and_transfers_lead_back_to_their_cell(api: Api, app: Api, sells: Sells) -> None:
    sells("p1")
    for _ in range(5):
        guest = app.post("/baskets/guests").data["userId"]
        assert slots.slot_of(guest) in HERE
    api.place("p1", user=OURS)
    offer = api.post(f"/baskets/users/{OURS}/transfer?qr=true", {"url": "https://shop.example/"}).data
    image = offer["qrCodeImageUrl"].rpartition("/")[2]
    assert {slots.slot_of(offer["jayToken"]), slots.slot_of(image)} <= set(HERE)
    assert Client().get(f"/baskets/transfers/{image}").status_code == 200
    assert app.post(f"/baskets/guests?jayToken={offer['jayToken']}").data["userId"] == OURS


@pytest.mark.usefixtures("cell")
def test_tokens_of_another_cell_are_refused(app: Api) -> None:
    assert app.post(f"/baskets/guests?jayToken={THEIRS}").refusal == WRONG_CELL
    assert Client().get(f"/baskets/transfers/{THEIRS}").status_code == 421


@pytest.mark.usefixtures("cell")
def test_an_erased_user_stays_in_the_cell(api: Api, partner: Partner, sells: Sells) -> None:
    sells("p1")
    api.place("p1", user=OURS)
    basket = Basket.objects.get(user_id=OURS)
    erased = erasure.erase_user(basket=basket, expected_events=basket.events, reason="a request", actor=TESTER)
    assert slots.slot_of(erased.user_id) in HERE


@pytest.mark.usefixtures("cell")
def test_a_user_whose_basket_stays_in_a_cell_without_slots_can_be_erased(api: Api, settings: Settings, sells: Sells) -> None:
    sells("p1")
    api.place("p1", user=OURS)
    settings.BASKETS_CELL = 3
    basket = Basket.objects.get(user_id=OURS)
    erased = erasure.erase_user(basket=basket, expected_events=basket.events, reason="a request", actor=TESTER)
    assert erasure.is_erased(erased)


def test_a_token_of_the_feed_counts_only_in_its_cell(api: Api, settings: Settings, cell: None) -> None:
    token = api.get("/baskets/events").body["nextToken"]
    assert api.get(f"/baskets/events?nextToken={token}").status == 200
    settings.BASKETS_CELL = 2
    assert api.get(f"/baskets/events?nextToken={token}").fields == {"nextToken"}


@pytest.mark.django_db(transaction=True)
def test_the_database_refuses_what_a_process_with_an_old_map_would_write(issue: Issue, sells: Sells) -> None:
    api = Api(issue())
    sells("p1")
    api.place("p1", user=THEIRS)
    try:
        assert claim_slots({None: HERE}, actor=TESTER) == 1
        before = list(Basket.objects.values())
        assert api.place("p1", 2, user=THEIRS).refusal == WRONG_CELL
        assert api.start(user=THEIRS).refusal == WRONG_CELL
        assert list(Basket.objects.values()) == before
        assert api.place("p1", user=OURS).status == 200
    finally:
        assert claim_slots(None, actor=TESTER) == 0
    assert api.place("p1", 2, user=THEIRS).status == 200


@pytest.mark.django_db(transaction=True)
def test_baskets_that_stay_in_a_former_cell_end_and_free_their_stock(issue: Issue, sells: Sells) -> None:
    api = Api(issue())
    sells("p1", unsold=2)
    for user in (OURS, THEIRS):
        api.place("p1", user=user)
        assert api.start(user=user).status == 200
    age_all_rows(timedelta(hours=1))
    try:
        claim_slots({None: HERE}, actor=TESTER)
        other = next(name for name in map("other-{}".format, range(99)) if slots.slot_of(name) in HERE)
        api.place("p1", user=other)
        assert api.start(user=other).status == 200
        assert expiry.sweep_sessions().expired == 1
        age_all_rows(timedelta(days=40))
        expiry.sweep_sessions()
        assert expiry.sweep_baskets().expired == 2
        theirs = Basket.objects.get(user_id=THEIRS)
        erasure.erase_user(basket=theirs, expected_events=theirs.events, reason="a request", actor=TESTER)
    finally:
        claim_slots(None, actor=TESTER)
