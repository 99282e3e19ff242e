"""Everything that staff do is in the audit log: a page that writes and leaves no entry fails here, and so does a new one."""

import csv
import json
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from baskets.domain import audit_log, runner
from baskets.domain.access import api_keys, partners, token_issuers
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.support import basket_repairs, guards
from baskets.models import ApiKey, Basket, DeskEntry, Partner, TokenIssuer
from baskets.models.basket_snapshot import Owner
from tests.admin.auth.test_rights import change
from tests.admin.conftest import Shop, post
from tests.admin.repairs.repair_forms import hidden_fields as fields
from tests.admin.repairs.test_matrix import NAMES, REPAIRS, SHARED
from tests.admin.test_partners import issued
from tests.admin.test_stock_take import confirm, preview
from tests.admin.test_token_issuers import USABLE
from tests.admin.test_webhooks import filled
from tests.domain.scenarios import User as Buyer
from tests.factories import TESTER, ProductFactory
from tests.key_servers import serving_keys

pytestmark = pytest.mark.django_db
PASSWORD = "a long password for tests"
# Every repair is made in `repairs.test_repairs`, which asserts the entry of each.
RECORDED_ELSEWHERE = {name for name in SHARED if name.endswith("_export")} | REPAIRS
READ_ONLY = {name for name in SHARED if not name.endswith("_export")} | {"baskets_worklist"}
REASON = {"reason": "ticket 12"}


def address(name: str, *arguments: Any) -> str:
    return reverse(f"admin:{name}", args=arguments)


def writes(root: Client, partner: Partner, keys_url: str) -> dict[str, Callable[[], Any]]:
    """One successful write for each page that is not a repair, in the order in which they can be made."""
    key = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)[0]
    issuer = token_issuers.add_issuer(partner_name=partner.name, name="published", audience="a", keys_url=keys_url, actor=TESTER).issuer
    ProductFactory(product_id="lamp", unsold=4)
    account, role = User.objects.create(username="nora"), Group.objects.create(name="Night shift")
    user = Buyer(Owner(partner_id=partner.pk, user_id="ann"))
    user.place("lamp")
    version = guards.basket_version(**Basket.objects.values("created_at", "events").get())
    of_user = {"user_id": "ann", "row": f"{user.owner.basket_id} {version}"}
    make_webhook = address("baskets_webhookendpoint_make", partner.pk)
    of_issuer = {"partner": partner.pk, "name": "login", "issuer": "us", "algorithms": ["ES256"], "keys": USABLE}
    passwords = {"password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    return {
        "baskets_partner_add": lambda: post(root, address("baskets_partner_add"), {"name": "Nova", "late_orders": "refuse"}),
        "baskets_partner_sandbox": lambda: post(root, address("baskets_partner_sandbox", partner.pk), {}),
        "baskets_partner_issue_key": lambda: issued(root, address("baskets_partner_issue_key", partner.pk)),
        "baskets_apikey_limit": lambda: post(root, address("baskets_apikey_limit", key.pk), {"calls": "5", **REASON}),
        "baskets_apikey_revoke": lambda: post(root, address("baskets_apikey_revoke", key.pk), REASON),
        "baskets_tokenissuer_add": lambda: post(root, address("baskets_tokenissuer_add"), {**of_issuer, **REASON}),
        "baskets_tokenissuer_fetch": lambda: post(root, address("baskets_tokenissuer_fetch", issuer.pk)),
        "baskets_tokenissuer_remove": lambda: post(root, address("baskets_tokenissuer_remove", issuer.pk), REASON),
        "baskets_webhookendpoint_make": lambda: root.post(make_webhook, filled(root, make_webhook)),
        "baskets_privacy": lambda: post(root, address("baskets_privacy"), {**of_user, "erase": "x", **REASON}),
        "baskets_product_stock_take": lambda: confirm(root, preview(root, "lamp,5")),
        "auth_user_add": lambda: post(root, address("auth_user_add"), {"username": "olga", **passwords}),
        "auth_user_change": lambda: change(root, account, first_name="Nora"),
        "auth_user_password_change": lambda: post(root, f"/admin/auth/user/{account.pk}/password/", passwords),
        "auth_user_delete": lambda: post(root, address("auth_user_delete", account.pk), {"post": "yes"}),
        "auth_group_add": lambda: post(root, address("auth_group_add"), {"name": "Day shift"}),
        "auth_group_change": lambda: post(root, address("auth_group_change", role.pk), {"name": "Late shift"}),
        "auth_group_delete": lambda: post(root, address("auth_group_delete", role.pk), {"post": "yes"}),
    }


@pytest.mark.django_db(transaction=True)
def test_every_page_that_writes_leaves_an_entry(root: Client, partner: Partner, settings: Any) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True
    with serving_keys() as server:
        server.say(USABLE.encode())
        made = writes(root, partner, server.url)
        assert set(NAMES) == RECORDED_ELSEWHERE | READ_ONLY | {name for name in made if name.startswith("baskets_")}
        silent = []
        for name, write in made.items():
            last = DeskEntry.objects.latest("pk").pk
            assert write().status_code in (200, 302), name
            if not DeskEntry.objects.filter(pk__gt=last, actor="root", actor_kind="staff").exists():
                silent.append(name)
    assert silent == []


def test_an_entry_says_who_did_what_why_and_what_was_before(root: Client, partner: Partner) -> None:
    anna = Actor(kind=ActorKind.STAFF, name="anna")
    partners.allow_origins(partner_name=partner.name, origins=["https://a.example"], reason="new player", actor=anna)
    partners.allow_origins(partner_name=partner.name, origins=["https://a.example"], reason="again", actor=anna)
    entry = DeskEntry.objects.get()  # A change to the same value is none.
    assert (entry.kind, entry.about, entry.subject, entry.partner) == ("changed", "partner", partner.name, partner)
    assert entry.data == {"before": {"origins": []}, "after": {"origins": ["https://a.example"]}}
    for shown in (address("baskets_deskentry_changelist"), address("baskets_deskentry_change", entry.pk)):
        page = root.get(shown).content.decode()
        for word in ("anna", "changed", "new player", "https://a.example", "nothing", partner.name):
            assert word in page


def test_entries_are_found_by_who_kind_partner_and_day_and_exported(root: Client, partner: Partner) -> None:
    for name, actor in (("Nova", "anna"), ("Luna", "otto")):
        made = partners.create_partner(name=name, actor=Actor(kind=ActorKind.STAFF, name=actor))
        api_keys.issue_api_key(partner_name=made.name, actor=Actor(kind=ActorKind.STAFF, name=actor))
    nova, listed = Partner.objects.get(name="Nova"), address("baskets_deskentry_changelist")

    def found(query: str) -> list[str]:
        return [f"{entry.actor} {entry.kind} {entry.about}" for entry in root.get(f"{listed}?{query}").context["cl"].result_list]

    both = ["anna created apikey", "anna created partner"]
    assert found("who=anna") == both
    assert found(f"partner={nova.pk}") == both
    assert len(found("kind=created")) == 4
    assert found("kind=revoked") == []
    assert found("at_until=2020-01-01T00:00") == []
    assert len(found("at_from=2020-01-01T00:00")) == 4
    assert found("q=Nova") == ["anna created partner"]
    assert found("q=otto") == ["otto created apikey", "otto created partner"]
    text = post(root, f"/admin/baskets/deskentry/export/?partner={nova.pk}").content.decode("utf-8-sig")
    assert [row[1] for row in csv.reader(text.splitlines())] == ["By", "anna, staff", "anna, staff"]


def test_entries_are_found_by_the_repair_that_they_name(root: Client, shop: Shop) -> None:
    shop.product("lamp", 4)
    shop.buyer("ann").place("lamp")
    session = shop.buyer("ann").start().session
    note = address("baskets_basket_repair", session.basket_id, "note")
    abort = address("baskets_checkoutsession_repair", session.pk, "abort")
    for page in (note, abort):
        assert post(root, page, fields(root.get(page).content.decode()) | REASON).status_code == 302
    listed = address("baskets_deskentry_changelist")
    found = {
        name: [entry.data["repair"] for entry in root.get(f"{listed}?repair={name}").context["cl"].result_list]
        for name in ("note", "abort", "erase")
    }
    assert found == {"note": ["note"], "abort": ["abort"], "erase": []}
    offered = root.get(listed).content.decode()
    assert all(f"?repair={name}" in offered for name in found)


def test_entries_are_found_by_words_of_the_reason_by_order_and_by_user(root: Client, shop: Shop) -> None:
    shop.product("lamp", 4)
    for user_id in ("ann", "ben"):
        shop.buyer(user_id).place("lamp")
    session = shop.buyer("ann").start().session
    ann = address("baskets_basket_repair", shop.buyer("ann").owner.basket_id, "note")
    abort = address("baskets_checkoutsession_repair", session.pk, "abort")
    for page, text in ((ann, "She was promised Führungskarten"), (abort, "why not")):
        seen = fields(root.get(page).content.decode())
        assert post(root, page, seen | {"reason": text}).status_code == 302
    other = shop.buyer("ben").owner.basket_id
    runner.run(basket_repairs.add_note, basket=Basket.objects.get(pk=other), expected_events=1, reason="called twice", actor=TESTER)
    listed = address("baskets_deskentry_changelist")

    def found(text: str) -> list[str]:
        return [entry.data["repair"] for entry in root.get(listed, {"q": text}).context["cl"].result_list]

    assert found("promised fuhrung") == ["note"]
    assert found(session.order_no.lower().replace("-", " ")) == found("ann") == ["abort", "note"]
    assert found("promised nothing") == found("an") == []
    page = root.get(listed, {"q": "ann"}).content.decode()
    for shown in ("Abort the checkout", "Note", "promised", f"ann, {session.order_no}</bdi>", shop.partner.name):
        assert shown in page, page[page.index("<tbody>") : page.index("</tbody>")]


def test_an_entry_of_a_key_names_no_secret(partner: Partner) -> None:
    key, text = api_keys.issue_api_key(partner_name=partner.name, label="player", actor=TESTER)
    api_keys.revoke_api_key(prefix=key.prefix, reason="stolen", actor=TESTER)
    api_keys.revoke_api_key(prefix=key.prefix, reason="again", actor=TESTER)
    entries = list(DeskEntry.objects.order_by("pk").values_list("kind", "subject", "note"))
    assert entries == [("created", key.prefix, ""), ("revoked", key.prefix, "stolen")]
    assert text[-64:] not in json.dumps(list(DeskEntry.objects.values_list("data", flat=True)))
    assert ApiKey.objects.count() == 1


def test_a_replaced_issuer_is_recorded_with_both_values(partner: Partner) -> None:
    options: dict[str, Any] = {"partner_name": partner.name, "name": "login", "keys": json.loads(USABLE), "actor": TESTER}
    token_issuers.add_issuer(audience="baskets", **options)
    token_issuers.add_issuer(audience="shop", **options)
    token_issuers.remove_issuer(partner_name=partner.name, name="login", reason="retired", actor=TESTER)
    created, changed, removed = DeskEntry.objects.order_by("pk")
    assert (created.kind, created.data["after"]["audience"]) == ("created", "baskets")
    assert changed.data == {"before": {"audience": "baskets"}, "after": {"audience": "shop"}}
    assert (removed.kind, removed.note, removed.data["before"]["audience"]) == ("removed", "retired", "shop")
    assert not TokenIssuer.objects.exists()


def test_the_list_costs_the_same_with_many_entries(root: Client, full_shop: Shop, django_assert_num_queries: Callable[..., Any]) -> None:
    listed = address("baskets_deskentry_changelist")
    for number in range(30):
        actor = Actor(kind=ActorKind.STAFF, name=f"anna{number}")
        audit_log.record(kind=DeskEntry.Kind.TESTED, about="webhookendpoint", subject="1", partner_id=full_shop.partner.pk, actor=actor)
        if number in (0, 29):
            with django_assert_num_queries(7):
                assert root.get(listed).status_code == 200
