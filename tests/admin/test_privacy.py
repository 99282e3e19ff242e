"""The privacy desk: what is stored of one user id at all partners is shown, exported without secrets, and erased."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from baskets.domain import comfort
from baskets.domain.access import partners
from baskets.models import Basket, Comfort, DeskEntry, Event
from baskets.models.basket_snapshot import Owner
from tests.admin.conftest import Shop, post
from tests.domain.scenarios import User as Buyer
from tests.factories import TESTER
from tests.time_travel import age_all_rows

pytestmark = pytest.mark.django_db
PAGE = "/admin/baskets/basket/privacy/"
ANN = {"user_id": "ann"}


@pytest.fixture
def same_id_elsewhere(full_shop: Shop) -> Buyer:
    """A user of another partner, by the same id, in checkout and with comfort settings."""
    partner = partners.create_partner(name="second", actor=TESTER)
    ann = Buyer(Owner(partner_id=partner.pk, user_id="ann"))
    ann.place("lamp")
    ann.start()
    values: Any = {"customer_id": "cust-4711", "payment_token": "tok-secret"}
    comfort.change_comfort(owner=ann.owner, values=values, consent=True)
    return ann


def chosen(client: Client) -> list[str]:
    """The values of all rows of the page."""
    return [f"{row.stored.basket.pk} {row.version}" for row in post(client, PAGE, ANN).context["rows"]]


def test_everything_of_one_id_is_shown_with_open_work_in_a_constant_number_of_statements(
    root: Client, full_shop: Shop, same_id_elsewhere: Buyer, django_assert_num_queries: Callable[..., Any]
) -> None:
    form = ANN | {"csrfmiddlewaretoken": "a" * 32}
    root.cookies["csrftoken"] = "a" * 32
    # Six of them look for the id in texts of staff, because it is a short word.
    with django_assert_num_queries(20):
        shown = root.post(PAGE, form)
    # Six of them look for the id in texts of staff, because it is a short word.
    with django_assert_num_queries(20):
        root.post(PAGE, form | {"user_id": "ben"})
    found = {row.stored.basket.partner.name: row for row in shown.context["rows"]}
    assert found["second"].stored.counts == {"checkouts": 1, "events": 2, "comfort settings": 1}
    assert [len(row.open_work) for row in shown.context["rows"]] == [0, 1]
    body = shown.content.decode()
    assert "A checkout is active. Finish or abort it first" in body
    assert "Two partners may call different people by the same id" in body
    assert "Open flags" in root.post(PAGE, form | {"user_id": "ben"}).content.decode()
    assert "Nothing is stored of this user id" in root.post(PAGE, form | {"user_id": "Ann"}).content.decode()


def test_export_is_a_file_without_secrets_and_recorded_for_each_partner(root: Client, full_shop: Shop, same_id_elsewhere: Buyer) -> None:
    response = post(root, PAGE, ANN | {"export": "x", "row": chosen(root), "reason": "request 12"})
    assert response["Content-Disposition"] == 'attachment; filename="user-data.json"'
    document = json.loads(response.content)
    first, second = document["partners"]
    assert (document["userId"], first["partner"], second["partner"]) == ("ann", full_shop.partner.name, "second")
    assert [(order["status"], order["items"][0]["productId"]) for order in first["checkouts"]] == [("ORDERED", "lamp")]
    assert [event["kind"] for event in first["timeline"]][-1] == "checkout_ordered"
    assert first["saved"] == [{"productId": "song", "count": 1}]
    assert second["comfortSettings"]["customerId"] == "cust-4711"
    assert "tok-secret" not in response.content.decode()
    entries = DeskEntry.objects.filter(kind="taken_out").order_by("pk").values_list("actor", "note", "partner__name")
    assert list(entries) == [("root", "request 12", full_shop.partner.name), ("root", "request 12", "second")]


def test_erasure_takes_the_chosen_partners_and_says_what_was_refused(root: Client, full_shop: Shop, same_id_elsewhere: Buyer) -> None:
    rows = chosen(root)
    form = ANN | {"erase": "x", "row": rows, "reason": "request 12"}
    assert "This field is required" in post(root, PAGE, form | {"reason": " "}).content.decode()
    assert "Choose at least one partner" in post(root, PAGE, form | {"row": []}).content.decode()
    assert Basket.objects.filter(user_id="ann").count() == 2
    body = post(root, PAGE, form).content.decode()
    assert "A checkout is active." in body
    assert Basket.objects.get(user_id="ann").partner.name == "second"
    assert Basket.objects.filter(user_id__startswith="erased-").count() == 1
    assert DeskEntry.objects.latest("pk").note == "request 12"
    same_id_elsewhere.finish(False)
    stale = post(root, PAGE, form | {"row": rows[1:]}).content.decode()
    assert "has changed since it was shown" in stale
    post(root, PAGE, form | {"row": chosen(root)})
    assert not Basket.objects.filter(user_id="ann").exists()
    assert not Comfort.objects.exists()
    assert "Nothing is stored of this user id" in post(root, PAGE, ANN).content.decode()


def test_a_page_of_an_erased_user_repairs_no_basket_of_the_same_user_who_returned(root: Client, shop: Shop) -> None:
    """The new basket has the old key, and as many events."""
    shop.product("song")
    user = shop.buyer("ann")
    user.place("song")
    age_all_rows(timedelta(minutes=1))
    note = reverse("admin:baskets_basket_repair", args=[user.owner.basket_id, "note"])
    form = {"seen": root.get(note).context["form"]["seen"].value(), "reason": "about the old one"}
    erase = reverse("admin:baskets_basket_repair", args=[user.owner.basket_id, "erase"])
    erased = {"seen": root.get(erase).context["form"]["seen"].value(), "reason": "request 14"}
    assert post(root, erase, erased).status_code == 302
    user.place("song")
    assert Basket.objects.get(user_id="ann").events == 1
    stale = post(root, note, form)
    assert stale.status_code == 409
    assert "has changed since it was shown" in stale.content.decode()
    assert not Event.objects.filter(basket_id=user.owner.basket_id, kind="repaired").exists()


def test_a_number_asks_whether_texts_elsewhere_mean_the_user(root: Client, full_shop: Shop) -> None:
    user = full_shop.buyer("42")
    user.place("song")
    extend = reverse("admin:baskets_basket_repair", args=[full_shop.buyer("ben").owner.basket_id, "extend"])
    form = {"seen": root.get(extend).context["form"]["seen"].value(), "days": "99", "reason": "for 42 again"}
    confirm = post(root, extend, form).context["confirm"]
    assert post(root, extend, form | {"confirm": confirm}).status_code == 302
    shown = post(root, PAGE, {"user_id": "42"})
    assert "for 42 again" in shown.content.decode()
    row = f"{user.owner.basket_id} {shown.context['rows'][0].version}"
    post(root, PAGE, {"user_id": "42", "erase": "x", "row": row, "reason": "request", "means_user_elsewhere": "on"})
    assert DeskEntry.objects.filter(note="for [erased] again").count() == 1


def test_each_step_needs_its_permission(full_shop: Shop, viewer: Client, sign_in: Callable[..., Client], stored_rows: Any) -> None:
    row = f"{full_shop.buyer('ann').owner.basket_id} 5"
    assert viewer.get(PAGE).status_code == 403
    for name, codename, allowed in (("exporter", "privacy_export", "export"), ("eraser", "repair_erase", "erase")):
        client = sign_in(name, permissions="view_")
        User.objects.get(username=name).user_permissions.add(Permission.objects.get(codename=codename))
        shown = post(client, PAGE, ANN).content.decode()
        assert ('name="export"' in shown, 'name="erase"' in shown) == (allowed == "export", allowed == "erase")
        before = stored_rows()
        denied = "erase" if allowed == "export" else "export"
        assert post(client, PAGE, ANN | {denied: "x", "row": row, "reason": "x"}).status_code == 403
        assert stored_rows() == before


def test_what_is_stored_of_a_user_without_a_basket_is_found_exported_and_erased(root: Client, full_shop: Shop) -> None:
    owner = full_shop.buyer("zoe").owner
    values: Any = {"customer_id": "cust-42", "payment_token": "tok-secret"}
    comfort.change_comfort(owner=owner, values=values, consent=True)
    shown = post(root, PAGE, {"user_id": "zoe"})
    (row,) = shown.context["rows"]
    assert "no basket" in shown.content.decode()
    form = {"user_id": "zoe", "row": f"{row.stored.basket.pk} {row.version}", "reason": "request 13"}
    document = json.loads(post(root, PAGE, form | {"export": "x"}).content)
    assert document["partners"][0]["comfortSettings"]["customerId"] == "cust-42"
    assert "erased" in post(root, PAGE, form | {"erase": "x"}).content.decode()
    assert not Comfort.objects.exists()
    assert not Basket.objects.filter(user_id="zoe").exists()
    entry = DeskEntry.objects.latest("pk")
    assert (entry.kind, entry.subject, entry.note, entry.partner_id) == ("repaired", "", "request 13", full_shop.partner.pk)
    assert "Nothing is stored of this user id" in post(root, PAGE, {"user_id": "zoe"}).content.decode()
