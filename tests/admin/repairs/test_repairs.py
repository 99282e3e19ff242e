"""Every repair: who may do it, what it does, that it needs a reason and a fresh page, and that it is done once."""

import html
import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse
from django.utils.timezone import now

from baskets.admin.repairs.admin import RepairAdmin
from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets import items
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import assignments, erasure
from baskets.models import Basket, CheckoutSession, DeskEntry, Event, Partner
from tests.admin.conftest import Shop
from tests.admin.repairs.repair_cases import CASES, Case, is_aborted, is_ordered_late, is_ordered_short, is_reversed
from tests.admin.repairs.repair_forms import address_of, asks, confirmed, form_of, hidden_fields
from tests.admin.repairs.repair_states import (
    OTHER,
    REASON,
    aborted,
    active,
    basket,
    basket_in_checkout,
    begun_again,
    broken,
    deleted,
    deleted_empty,
    erased_before,
    extended_before,
    gone,
    lapsed,
    matter,
    nearly_over,
    only_one,
    only_session,
    ordered,
    product,
    released_before,
    settled_before,
    sold_out_since,
    taken_by_repairer,
    unlimited,
    unlisted_now,
)
from tests.domain.scenarios import available, reservations

pytestmark = pytest.mark.django_db
# Rights, reasons and tokens are those of a repair, whatever the state: further states of the same repair are left to the long programme.
ONE_OF_EACH = [
    case if case.slug not in {earlier.slug for earlier in CASES[:place]} else pytest.param(case, marks=pytest.mark.long)
    for place, case in enumerate(CASES)
]


@pytest.mark.measured
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_repair_shows_what_it_changes_does_it_once_and_says_so(
    case: Case, shop: Shop, repairer: Client, stored_rows: Callable[[], Any]
) -> None:
    record = case.build(shop)
    address = address_of(record, case.slug)
    before = stored_rows()
    numbers = {basket.pk: basket.events for basket in Basket.objects.all()}
    form = form_of(repairer, address, case)
    unconfirmed = {name: value for name, value in form.items() if name != "confirm"}
    shown = repairer.post(address, unconfirmed) if asks(address) else repairer.get(address)
    assert shown.status_code == 200
    assert 'class="changed"' in shown.content.decode()
    assert stored_rows() == before

    assert repairer.post(address, form).status_code == 302
    case.check(shop)
    entry = DeskEntry.objects.latest("pk")
    assert (entry.actor, entry.actor_kind, entry.note) == ("rita", "staff", REASON)
    assert invariant_checker.check_invariants() == []
    if hasattr(record, "basket_id") or isinstance(record, Basket):
        last = Event.objects.order_by("pk").last()
        assert last is not None
        assert (last.kind, last.actor_kind, last.actor) == ("repaired", "staff", "rita")
        assert last.data["reason"] == REASON
        assert last.data["repair"] == case.slug.replace("-", "_")
        assert last.number > max(numbers.values())

    done = stored_rows()
    again = repairer.post(address, form)
    assert stored_rows() == done
    if case.slug == "erase":
        assert again.status_code == 404, "nothing is found by that key any more"
        return
    assert again.status_code == 409
    assert "The record has changed since it was shown. Nothing was done." in again.content.decode()
    assert 'by <bdi class="given">rita</bdi>' in again.content.decode()


@pytest.mark.usefixtures("plain_errors")
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_a_repair_without_right_reason_token_or_form_changes_nothing(
    case: Case, shop: Shop, repairer: Client, request: pytest.FixtureRequest, stored_rows: Callable[[], Any]
) -> None:
    record = case.build(shop)
    address = address_of(record, case.slug)
    form = form_of(repairer, address, case)
    before = stored_rows()
    for who, code in (("viewer", 403), ("staff_without_rights", 403), ("anonymous", 302)):
        client: Client = request.getfixturevalue(who)
        client.cookies["csrftoken"] = "a" * 32
        assert client.get(address).status_code == code
        assert client.post(address, form | {"csrfmiddlewaretoken": "a" * 32}).status_code == code
    tokenless = {name: value for name, value in form.items() if name != "csrfmiddlewaretoken"}
    assert repairer.post(address, tokenless).status_code == 403
    assert repairer.get(address, form).status_code == 200
    optional = case.slug in ("take", "hand-back")
    for reason in ([] if optional else ["", "   \n"]) + ["x" * 501, "a\x00b", "a\u202eb"]:
        response = repairer.post(address, form | {"reason": reason})
        assert response.status_code == 200, reason
        assert "errorlist" in response.content.decode()
    assert repairer.post(address, form | {"seen": "x"}).status_code == 200
    assert repairer.put(address, headers={"X-CSRFToken": form["csrfmiddlewaretoken"]}).status_code == 405
    assert stored_rows() == before


@pytest.mark.usefixtures("plain_errors")
@pytest.mark.parametrize("case", ONE_OF_EACH, ids=str)
def test_each_repair_has_a_permission_of_its_own(case: Case, shop: Shop, sign_in: Callable[..., Client]) -> None:
    address = address_of(case.build(shop), case.slug)
    own = f"repair_{case.slug.replace('-', '_')}"
    views = Permission.objects.filter(content_type__app_label="baskets", codename__startswith="view_")
    others = Permission.objects.filter(content_type__app_label="baskets").exclude(codename=own)
    for name, permissions, code in (
        ("one", [*views, Permission.objects.get(codename=own)], 200),
        ("rest", list(others), 403),
        ("blind", [Permission.objects.get(codename=own)], 403),
    ):
        client = sign_in(name)
        User.objects.get(username=name).user_permissions.set(permissions)
        assert client.get(address).status_code == code, name


@pytest.mark.parametrize("case", [case for case in CASES if case.build is not unlimited], ids=str)
def test_a_page_that_is_stale_changes_nothing_and_says_what_moved(
    case: Case, shop: Shop, repairer: Client, stored_rows: Callable[[], Any]
) -> None:
    record = case.build(shop)
    address = address_of(record, case.slug)
    form = form_of(repairer, address, case)
    moved = moved_by_others(shop, record, case.slug)
    before = stored_rows()
    response = repairer.post(address, form)
    assert response.status_code == 409
    body = response.content.decode()
    assert "The record has changed since it was shown" in body
    assert moved in html.unescape(body)
    assert stored_rows() == before
    if case.slug == "restore":  # The user has begun again, so there is nothing to decide.
        assert "The basket is open." in body
        return
    # The page that says so is good for deciding again.
    assert f'name="seen" value="{form["seen"]}"' not in body
    assert re.search(r'name="seen" value="\d+"', body)


@pytest.mark.parametrize(
    "case", [case for case in CASES if case.slug in {"erase", "extend", "order-late", "reverse-order", "settle"}], ids=str
)
def test_repair_of_a_record_that_disappears_is_refused_with_a_reason(
    case: Case, shop: Shop, repairer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other staff erase the user after the page was loaded."""
    record = case.build(shop)
    address = address_of(record, case.slug)
    form = form_of(repairer, address, case)
    run = runner.run

    def erased_before(operation: Callable[[], Any]) -> Any:
        monkeypatch.setattr(runner, "run", run)
        basket = Basket.objects.get()
        run(lambda: erasure.erase_user(basket=basket, expected_events=basket.events, reason=REASON, actor=OTHER))
        return run(operation)

    monkeypatch.setattr(runner, "run", erased_before)
    response = repairer.post(address, form)
    assert response.status_code == 409
    assert "The basket no longer exists." in response.content.decode()
    assert Event.objects.filter(kind="repaired", actor="rita").count() == 0


def moved_by_others(shop: Shop, record: Any, slug: str) -> str:
    about = record._meta.model_name
    if about == "brokenrule" or (about == "product" and slug in ("take", "hand-back")):
        step = assignments.last_step(about, record.pk).number
        other = Actor(kind=ActorKind.STAFF, name="ottilie")
        runner.run(assignments.assign, about=about, subject=record.pk, expected_step=step, reason="mine", actor=other)
        return "ottilie"
    if about == "product":
        supply.set_unsold(reports={record.pk: 99}, as_of=None, reason="feed", actor=Actor.system("night feed"))
        return "night feed"
    shop.product("other")
    other = Actor(kind=ActorKind.KEY, name="theirkey")
    owner = shop.buyer(record.basket.user_id if about == "guesttoken" else "ann").owner
    runner.run(items.place_item, owner=owner, product_id="other", count=1, actor=other)
    return "theirkey"


@pytest.mark.measured
@pytest.mark.parametrize(
    ("slug", "build", "values", "message"),
    [
        ("finish-as-ordered", ordered, {}, "The checkout is already ordered."),
        ("abort", ordered, {}, "The checkout is already ordered."),
        ("abort", aborted, {}, "The checkout is already aborted."),
        ("release", released_before, {}, "only a held one can be released"),
        ("release", only_one, {}, "It is the only item that the checkout buys."),
        ("extend-hold", active, {"minutes": "15"}, "The hold lasts longer than that anyway."),
        ("extend-hold", nearly_over, {"minutes": "16"}, "A hold is extended by at most 15 minutes."),
        ("extend-hold", extended_before, {"minutes": "9"}, "already extended 2 times, which is the limit"),
        ("extend-hold", ordered, {"minutes": "15"}, "only the hold of an active one can be extended"),
        ("add-item", basket, {"product": "lamp", "count": "1"}, "The product is already in the cart. Change its count instead."),
        ("add-item", basket, {"product": "amp", "count": "1"}, "No listed product has this id. It may be: lamp (Name of lamp)"),
        ("add-item", basket, {"product": "song", "count": "1000"}, "At most 999 pieces."),
        ("add-item", deleted, {"product": "song", "count": "1"}, "Restore it first."),
        ("restore", basket, {}, "The basket is open. Add single items instead."),
        ("restore", begun_again, {}, "The basket is open. Add single items instead."),
        ("restore", erased_before, {}, "The user's data were erased."),
        ("note", erased_before, {}, "The user's data were erased."),
        ("restore", deleted_empty, {}, "The basket was empty when it was closed."),
        ("hold-again", active, {}, "There is too little stock. rare: 1 wanted, 0 available"),
        ("hold-again", lapsed, {}, "The hold of this checkout is over"),
        ("hold-again", only_session, {}, "No item of this checkout failed at its start."),
        ("hold-again", unlisted_now, {}, "The failed items are not listed"),
        ("take", taken_by_repairer, {}, "It is already assigned to you."),
        ("hand-back", matter, {}, "It is not assigned."),
        ("hand-back", broken, {}, "It is not assigned."),
        ("settle-rule", gone, {}, "the last check has not found it again"),
        ("settle", settled_before, {}, "The flag is already resolved."),
        ("erase", erased_before, {}, "were already erased"),
        ("erase", basket_in_checkout, {}, "A checkout is active."),
        ("order-late", active, {}, "only an aborted or expired one can be ordered late"),
        ("order-late", sold_out_since, {}, "1 of 2 pieces is available. Choose this to order without them"),
        ("reverse-order", aborted, {}, "there is no order to reverse"),
        ("set-unsold", product, {"unsold": "5", "counted_at": "2020-01-01 00:00:00"}, "A report of a later time exists. Count again."),
        ("set-unsold", product, {"unsold": "5", "counted_at": "2999-01-01 00:00:00"}, "is in the future, by the database's clock"),
        ("set-unsold", product, {"unsold": "5", "unlimited": "on"}, "Enter a number, or choose unlimited"),
        ("set-unsold", product, {}, "Enter a number, or choose unlimited"),
        ("adjust-supply", product, {"pieces": "0"}, "there is nothing to record"),
        ("adjust-supply", product, {"pieces": "-6"}, "more than was ever supplied"),
        ("adjust-supply", unlimited, {"pieces": "6"}, "The product is unlimited"),
        ("change-item", basket, {"product": "lamp", "to": "cart", "count": "2"}, "The item already has this count and list."),
        ("change-item", basket, {"product": "lamp", "to": "cart", "count": "1000"}, "At most 999 pieces."),
        ("change-item", basket, {"product": "lamp", "to": "cart"}, "How many pieces?"),
        ("change-item", basket, {"product": "gone", "to": "out"}, "neither in the cart nor in the saved list"),
        ("extend", basket, {"days": "3"}, "The basket already lasts that long."),
    ],
)
def test_a_repair_that_does_not_fit_is_refused_with_a_sentence(
    slug: str, build: Callable[[Shop], Any], values: dict[str, Any], message: str, *, shop: Shop, repairer: Client, stored_rows: Any
) -> None:
    record = build(shop)
    address = address_of(record, slug)
    model_admin = admin.site.get_model_admin(type(record))
    assert isinstance(model_admin, RepairAdmin)
    repair = next(repair for repair in model_admin.repairs if repair.slug == slug)
    before = stored_rows()
    repairer.cookies["csrftoken"] = "a" * 32
    form = {"csrfmiddlewaretoken": "a" * 32, "seen": repair.version(record), "reason": REASON, "opened_at": str(now()), **values}
    response = repairer.post(address, confirmed(repairer, address, form))
    assert response.status_code in (200, 409)
    assert message in html.unescape(response.content.decode())
    assert stored_rows() == before
    assert invariant_checker.check_invariants() == []


def test_an_order_is_reversed_once(shop: Shop, repairer: Client) -> None:
    session = ordered(shop)
    address = address_of(session, "reverse-order")
    case = Case("reverse-order", ordered, is_reversed, {})
    assert repairer.post(address, form_of(repairer, address, case)).status_code == 302
    body = repairer.get(address).content.decode()
    assert "The order was already reversed." in body
    assert 'name="reason"' not in body
    assert available("lamp") == (5, 0)


def test_a_basket_with_an_active_checkout_is_not_ended(shop: Shop, repairer: Client) -> None:
    session = active(shop)
    body = repairer.get(address_of(session.basket, "end")).content.decode()
    assert "A checkout is active." in body


def test_a_late_order_takes_back_what_lapsed_checkouts_hold(shop: Shop, repairer: Client) -> None:
    session = aborted(shop)
    other = shop.buyer("ben")
    other.place("lamp", 5)
    other.start()
    other.wait(hours=1)
    address = address_of(session, "order-late")
    case = Case("order-late", aborted, is_ordered_late, {})
    form = form_of(repairer, address, case)
    shown = repairer.post(address, {name: value for name, value in form.items() if name != "confirm"}).content.decode()
    assert "They are expired first, then the repair is tried again." in shown
    assert repairer.post(address, form).status_code == 302
    session.refresh_from_db()
    assert session.status == "ORDERED"
    assert CheckoutSession.objects.get(basket_id=other.owner.basket_id).status == "EXPIRED"
    assert invariant_checker.check_invariants() == []


def test_what_is_confirmed_is_what_was_shown(shop: Shop, repairer: Client, stored_rows: Callable[[], Any]) -> None:
    address = address_of(product(shop), "set-unsold")
    form = form_of(repairer, address, Case("set-unsold", product, is_aborted, {"unsold": "7"}))
    before = stored_rows()
    for changed in ({"unsold": "70"}, {"confirm": ""}, {"confirm": "on"}):
        response = repairer.post(address, form | changed)
        assert response.status_code == 200
        assert "What it changes" in response.content.decode()
        assert stored_rows() == before


def test_a_late_order_that_would_be_shorter_than_shown_is_not_made(shop: Shop, repairer: Client, stored_rows: Callable[[], Any]) -> None:
    session = aborted(shop)
    address = address_of(session, "order-late")
    form = form_of(repairer, address, Case("order-late", aborted, is_ordered_short, {}))
    other = shop.buyer("ben")
    other.place("lamp", 4)
    other.start()
    before = stored_rows()
    response = repairer.post(address, form)
    assert "1 of 2 pieces is available. Choose this to order without them" in response.content.decode()
    assert stored_rows() == before
    again = form | hidden_fields(response.content.decode()) | {"accept_short": "on"}
    last = shop.buyer("cid")
    last.place("lamp")
    last.start()
    before = stored_rows()
    response = repairer.post(address, again)
    assert response.status_code == 409
    assert "The record has changed since it was shown. Nothing was done." in response.content.decode()
    assert stored_rows() == before
    again = form | hidden_fields(response.content.decode()) | {"accept_short": "on"}
    assert repairer.post(address, again).status_code == 302
    assert reservations(session.order_no) == [("lamp", "RELEASED", 2), ("lamp", "SHORT", 2), ("rare", "FAILED", 1)]


def test_a_repair_of_many_rows_needs_the_right_to_see_them(shop: Shop) -> None:
    session = active(shop)
    client = Client()
    client.force_login(User.objects.create(username="blind", is_staff=True))
    abort = Permission.objects.get(codename="repair_abort")
    view = Permission.objects.get(codename="view_checkoutsession")
    address = reverse("admin:baskets_checkoutsession_repair_many", args=["abort"])
    for permissions, code in (([abort], 403), ([view], 403), ([abort, view], 200)):
        User.objects.get(username="blind").user_permissions.set(permissions)
        assert client.post(address, {"_selected_action": [session.pk]}).status_code == code
    session.refresh_from_db()
    assert session.status == "ACTIVE"


def test_the_timeline_keeps_who_repaired_when_the_account_is_deleted(shop: Shop, repairer: Client, root: Client) -> None:
    session = active(shop)
    address = address_of(session, "abort")
    repairer.post(address, form_of(repairer, address, Case("abort", active, is_aborted, {})))
    User.objects.get(username="rita").delete()
    page = root.get(reverse("admin:baskets_basket_change", args=[session.basket_id])).content.decode()
    assert '<bdi class="given">rita</bdi>' in page
    assert REASON in page


def test_a_partner_setting_is_not_changed_by_a_short_order(shop: Shop, repairer: Client) -> None:
    session = sold_out_since(shop)
    address = address_of(session, "order-late")
    repairer.post(address, form_of(repairer, address, Case("order-late", sold_out_since, is_ordered_short, {"accept_short": "on"})))
    assert Partner.objects.get().late_orders == "refuse"


def test_migrations_make_what_the_models_say() -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)
