"""Which repairs the pages offer, to whom, and with which reasons."""

import re
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from baskets.admin.repairs.registry import ALL_REPAIRS
from baskets.models import Event
from tests.admin.conftest import Shop, token
from tests.admin.repairs.repair_forms import address_of, hidden_fields
from tests.admin.repairs.repair_states import (
    active,
    erased_before,
    only_one,
)

pytestmark = pytest.mark.django_db


def test_an_unknown_repair_is_not_found(shop: Shop, repairer: Client) -> None:
    session = active(shop)
    assert repairer.get(address_of(session, "no-such")).status_code == 404
    assert repairer.get(address_of(session, "abort").replace(str(session.pk), "999999")).status_code == 404


OF_OPEN_BASKET = {"add-item", "change-item", "extend", "end", "note", "erase"}


def test_pages_offer_the_repairs_that_fit_to_those_who_may(shop: Shop, repairer: Client, viewer: Client) -> None:
    session = active(shop)
    page = reverse("admin:baskets_basket_change", args=[session.basket_id])
    offered = set(re.findall(r"/repair/([a-z-]+)/", repairer.get(page).content.decode()))
    assert offered == {"finish-as-ordered", "abort", "extend-hold", "hold-again", "release", *OF_OPEN_BASKET}
    assert "/repair/" not in viewer.get(page).content.decode()
    shop.buyer("ann").finish(True)
    offered = set(re.findall(r"/repair/([a-z-]+)/", repairer.get(page).content.decode()))
    assert offered == {"reverse-order", *OF_OPEN_BASKET}


def test_what_is_done_is_not_offered_again(shop: Shop, repairer: Client) -> None:
    made = erased_before(shop)
    body = repairer.get(reverse("admin:baskets_basket_change", args=[made.pk])).content.decode()
    assert not re.findall(r"/repair/[a-z-]+/", body)
    shop.product("tea", 5)
    buyer = shop.buyer("ben")
    buyer.place("tea")
    buyer.delete()
    page = reverse("admin:baskets_basket_change", args=[buyer.owner.basket_id])
    assert re.findall(r"/repair/([a-z-]+)/", repairer.get(page).content.decode()) == ["restore", "note", "erase"]


ABOUT_PAYMENTS = {"finish-as-ordered", "order-late", "reverse-order", "settle"}


def test_only_repairs_that_depend_on_a_payment_offer_reasons_about_one(settings: Any) -> None:
    settings.BASKETS_REPAIR_REASONS = ["It was paid"]
    settings.BASKETS_BASKET_REASONS = ["It is wanted"]
    offered: dict[str, set[str]] = {"It was paid": set(), "It is wanted": set()}
    for repair in ALL_REPAIRS:
        fields = repair.form_class(record=None).fields
        for reason, _ in getattr(fields.get("preset"), "choices", ()):
            offered.get(reason, set()).add(repair.slug)
    assert offered["It was paid"] == ABOUT_PAYMENTS
    assert offered["It is wanted"] == {
        *("abort", "extend-hold", "hold-again", "release"),
        *("add-item", "change-item", "extend", "end", "restore", "erase", "revoke-device"),
    }


def test_the_only_hold_leads_to_the_abort(shop: Shop, repairer: Client) -> None:
    reservation = only_one(shop)
    body = repairer.get(address_of(reservation, "release")).content.decode()
    assert f'href="{address_of(reservation.session, "abort")}">Abort the checkout</a>' in body


def test_reasons_of_the_operator_are_offered(shop: Shop, repairer: Client, settings: Any) -> None:
    settings.BASKETS_REPAIR_REASONS = ["Refunded", "Returned"]
    session = active(shop)
    address = address_of(session, "finish-as-ordered")
    body = repairer.get(address).content.decode()
    assert '<option value="Refunded">Refunded</option>' in body
    form = {"csrfmiddlewaretoken": token(repairer, address)} | hidden_fields(body)
    assert "Choose a reason or write one." in repairer.post(address, form).content.decode()
    assert "Select a valid choice" in repairer.post(address, form | {"preset": "Other"}).content.decode()
    assert "At most 500 characters" in repairer.post(address, form | {"preset": "Refunded", "reason": "x" * 495}).content.decode()
    assert repairer.post(address, form | {"preset": "Refunded", "reason": "ticket 12"}).status_code == 302
    assert Event.objects.latest("number").data["reason"] == "Refunded: ticket 12"
    settings.BASKETS_REPAIR_REASONS = []
    assert 'name="preset"' not in repairer.get(address_of(session, "order-late")).content.decode()


def test_the_roles_hold_what_their_names_say() -> None:
    roles = {
        group.name: set(group.permissions.values_list("codename", flat=True)) for group in Group.objects.filter(name__startswith="Basket")
    }
    views = {name for name in roles["Basket viewers"] if name.startswith("view_")}
    assert views == roles["Basket viewers"]
    models = {model._meta.model_name for model in apps.get_app_config("baskets").get_models() if model._meta.default_permissions}
    assert views == {f"view_{name}" for name in models}
    repairs = {repair.permission.removeprefix("baskets.") for repair in ALL_REPAIRS} - {"change_partner"}
    assert roles["Basket repairers"] == views | repairs | {"export_list"}
