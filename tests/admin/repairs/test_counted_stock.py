"""A stock take of one product: the moment of the count, and what is sold between preview and confirmation."""

import re
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now

from baskets.domain.actors import Actor
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.models import Stock, StockAdjustment
from tests.admin.conftest import Shop
from tests.admin.repairs.repair_cases import Case, is_aborted
from tests.admin.repairs.repair_forms import address_of, form_of
from tests.admin.repairs.repair_states import (
    product,
)
from tests.domain.scenarios import available
from tests.time_travel import age_rows

pytestmark = pytest.mark.django_db


def test_a_stock_take_changes_the_supply_as_shown_while_customers_buy(shop: Shop, repairer: Client) -> None:
    """22 lamps, 10 of them held; 17 are counted. Three of the held ones are ordered between the preview and the confirmation."""
    record = product(shop)
    supply.set_unsold(reports={"lamp": 22}, as_of=None, reason="feed", actor=Actor.system("feed"))
    holders = [shop.buyer("cid"), shop.buyer("dan")]
    for holder, pieces in zip(holders, (3, 5), strict=True):
        holder.place("lamp", pieces)
        holder.start()
    address = address_of(record, "set-unsold")
    form = form_of(repairer, address, Case("set-unsold", product, is_aborted, {"unsold": "17"}))
    assert available("lamp") == (12, 0)
    holders[0].finish(ordered=True)
    assert repairer.post(address, form).status_code == 302
    assert available("lamp") == (7, 0)
    last = StockAdjustment.objects.order_by("pk").last()
    assert last is not None
    assert (last.delta, last.reported, last.as_of.isoformat()) == (-5, 17, form["opened_at"])
    assert invariant_checker.check_invariants() == []


def test_a_stock_take_may_name_the_moment_of_the_count(shop: Shop, repairer: Client) -> None:
    record = product(shop)
    age_rows(timedelta(days=1), Stock.objects.all(), StockAdjustment.objects.all())
    address = address_of(record, "set-unsold")
    counted_at = (now() - timedelta(hours=1)).replace(microsecond=0)
    case = Case("set-unsold", product, is_aborted, {"unsold": "4", "counted_at": f"{counted_at:%Y-%m-%d %H:%M:%S}"})
    assert repairer.post(address, form_of(repairer, address, case)).status_code == 302
    assert Stock.objects.values_list("available", "reported", "reported_as_of").get(pk="lamp") == (2, 4, counted_at)


def test_the_moment_of_the_count_is_shown_and_read_in_the_zone_of_the_page(shop: Shop, repairer: Client) -> None:
    repairer.cookies["desk_zone"] = "Asia/Tokyo"
    record = product(shop)
    age_rows(timedelta(days=1), Stock.objects.all(), StockAdjustment.objects.all())
    address = address_of(record, "set-unsold")
    help_text = re.search(r"Empty: when this page was opened, ([^<]+)", repairer.get(address).content.decode())
    assert help_text
    opened_at = help_text[1][:19]
    assert help_text[1][19:].startswith(". Otherwise as 2026-11-24 06:00, in the time zone of this page (Asia/Tokyo).")
    case = Case("set-unsold", product, is_aborted, {"unsold": "4", "counted_at": opened_at})
    assert repairer.post(address, form_of(repairer, address, case)).status_code == 302
    tokyo = timezone(timedelta(hours=9))
    assert Stock.objects.get(pk="lamp").reported_as_of == datetime.fromisoformat(opened_at).replace(tzinfo=tokyo)


@pytest.mark.parametrize("opened_at", ["", "x", "2026-02-30T00:00:00+00:00", "2026-02-01 00:00:00", "0001-01-01T00:00:00+14:00"])
def test_a_stock_take_with_a_forged_moment_changes_nothing(opened_at: str, shop: Shop, repairer: Client, stored_rows: Any) -> None:
    address = address_of(product(shop), "set-unsold")
    form = form_of(repairer, address, Case("set-unsold", product, is_aborted, {"unsold": "17"}))
    before = stored_rows()
    assert repairer.post(address, form | {"opened_at": opened_at}).status_code in (200, 409)
    assert stored_rows() == before
