"""Partners are created, keys issued and revoked by superusers, each by one POST; a key is shown once and kept nowhere."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db.models.functions import Now
from django.test import Client
from django.urls import reverse

from baskets.domain.access import api_keys, token_issuers
from baskets.domain.events import webhook_endpoints
from baskets.models import ApiKey, DeskEntry, Partner, WebhookEndpoint
from tests.admin.conftest import post, token
from tests.conftest import Log
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
KEY = re.compile(r"bk_[a-z0-9]{12}_[0-9a-f]{64}")


@pytest.fixture
def issue(partner: Partner) -> str:
    return reverse("admin:baskets_partner_issue_key", args=[partner.pk])


def pages_of(key: ApiKey) -> list[str]:
    return [reverse(f"admin:baskets_apikey_{name}", args=[key.pk]) for name in ("revoke", "limit")]


def nonce(client: Client, address: str) -> str:
    found = re.search(r'name="nonce" value="([^"]+)"', client.get(address).content.decode())
    assert found
    return found[1]


def issued(client: Client, address: str, **values: str) -> Any:
    return client.post(
        address,
        {"kind": "server", "csrfmiddlewaretoken": token(client, address), "nonce": nonce(client, address), **values},
    )


def test_a_key_is_shown_once_and_works(root: Client, issue: str, log: Log, capsys: Any) -> None:
    response = issued(root, issue, label="shop back end", days="30")
    (text,) = KEY.findall(response.content.decode())
    key = ApiKey.objects.get()
    assert key.digest == api_keys.digest_key(text)
    assert (key.label, key.created_by, key.kind) == ("shop back end", "root", "server")
    assert key.expires_at is not None
    assert "no-store" in response.headers["Cache-Control"]
    # Nowhere else: not on any page after it, in no session, no cookie and no log.
    for address in (issue, reverse("admin:baskets_apikey_change", args=[key.pk]), reverse("admin:index")):
        assert text not in root.get(address).content.decode()
        assert text[-64:] not in root.get(address).content.decode()
    stored = [session.get_decoded() for session in Session.objects.all()]
    assert text not in str(stored)
    assert text not in str(root.cookies)
    captured = capsys.readouterr()
    assert text not in log.text + captured.out + captured.err


def test_a_page_sent_twice_issues_one_key(root: Client, issue: str) -> None:
    form = {"kind": "server", "csrfmiddlewaretoken": token(root, issue), "nonce": nonce(root, issue)}
    assert KEY.search(root.post(issue, form).content.decode())
    again = root.post(issue, form).content.decode()
    assert not KEY.search(again)
    assert "No key was issued" in again
    assert ApiKey.objects.count() == 1


def test_the_digest_of_a_key_is_shown_nowhere(root: Client, issue: str) -> None:
    issued(root, issue)
    key = ApiKey.objects.get()
    for address in (
        reverse("admin:baskets_apikey_changelist"),
        reverse("admin:baskets_apikey_change", args=[key.pk]),
        reverse("admin:baskets_partner_change", args=[key.partner_id]),
    ):
        body = root.get(address).content.decode()
        assert key.prefix in body
        assert bytes(key.digest).hex() not in body
        assert "digest" not in body.lower()


def test_a_key_is_revoked_after_a_confirmation(root: Client, issue: str) -> None:
    issued(root, issue)
    key = ApiKey.objects.get()
    address = reverse("admin:baskets_apikey_revoke", args=[key.pk])
    assert "Revoke key" in root.get(address).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    assert "Choose a reason or write one" in post(root, address).content.decode()
    key.refresh_from_db()
    assert key.revoked_at is None
    assert post(root, address, {"reason": "found in a public repository"}).status_code == 302
    key.refresh_from_db()
    first = key.revoked_at
    assert first is not None
    assert DeskEntry.objects.latest("pk").note == "found in a public repository"
    assert "already revoked" in root.get(address).content.decode()
    assert post(root, address, {"reason": "again"}).status_code == 302
    key.refresh_from_db()
    assert key.revoked_at == first
    assert DeskEntry.objects.latest("pk").note == "found in a public repository"


def test_the_limit_of_a_key_is_set_and_taken_away(root: Client, issue: str) -> None:
    issued(root, issue, calls="600")
    key = ApiKey.objects.get()
    assert key.calls_per_minute == 600
    page, address = reverse("admin:baskets_apikey_change", args=[key.pk]), reverse("admin:baskets_apikey_limit", args=[key.pk])
    assert "600" in root.get(page).content.decode()
    lifted = {"calls": "", "calls_lifted": "on"}
    for values, stored, shown in ((lifted, 0, "no limit"), ({"calls": "50"}, 50, "50"), ({"calls": ""}, None, "the limit of the service")):
        assert post(root, address, values | {"reason": "ticket 12"}).status_code == 302
        key.refresh_from_db()
        assert key.calls_per_minute == stored
        assert shown in root.get(page).content.decode()
    assert post(root, address, {"calls": "7", "preset": "The partner requested it", "reason": "ticket 13"}).status_code == 302
    assert DeskEntry.objects.latest("pk").note == "The partner requested it: ticket 13"
    assert post(root, address, {"calls": "", "reason": "ticket 14"}).status_code == 302
    for wrong in ({"calls": "0"}, {"calls": "-1"}, {"calls": "1000001"}, {"calls": "many"}, lifted | {"calls": "5"}):
        assert post(root, address, wrong | {"reason": "ticket 12"}).status_code == 200
    assert "The payment was found" not in root.get(address).content.decode()
    key.refresh_from_db()
    assert key.calls_per_minute is None


def test_a_partner_is_created_by_the_domain(root: Client) -> None:
    address = reverse("admin:baskets_partner_add")
    values = {"name": "Nova", "late_orders": "accept", "hold": "0:45:00", "share_percent": "30"}
    assert post(root, address, values).status_code == 302
    made = Partner.objects.get(name="Nova")
    assert (made.late_orders, made.hold_seconds, made.share_percent) == ("accept", 2700, 30)
    assert "already a partner" in post(root, address, values).content.decode()
    wrong = post(root, address, {"name": "a\u202eb", "late_orders": "accept"}).content.decode()
    assert "printable" in wrong
    assert post(root, address, {"name": "X", "late_orders": "maybe"}).status_code == 200
    assert Partner.objects.count() == 1


def test_only_superusers_get_here(
    partner: Partner,
    issue: str,
    sign_in: Callable[..., Client],
    request: pytest.FixtureRequest,
    stored_rows: Callable[[], Any],
) -> None:
    key, _ = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)
    all_rights = sign_in("all")
    User.objects.get(username="all").user_permissions.set(Permission.objects.all())
    staff_without_rights, stranger = (request.getfixturevalue(who) for who in ("staff_without_rights", "anonymous"))
    people = ((all_rights, 403), (staff_without_rights, 403), (stranger, 302))
    before = stored_rows()
    for address in (issue, reverse("admin:baskets_partner_add"), *pages_of(key)):
        for client, code in people:
            assert client.get(address).status_code == code
            client.cookies["csrftoken"] = "a" * 32
            signed = {"csrfmiddlewaretoken": "a" * 32, "kind": "server", "name": "X", "late_orders": "refuse"}
            assert client.post(address, signed).status_code == code
    assert stored_rows() == before


def test_nothing_is_done_without_the_form_token(root: Client, partner: Partner, issue: str, stored_rows: Callable[[], Any]) -> None:
    issued(root, issue)
    settings = reverse("admin:baskets_partner_repair", args=[partner.pk, "change-settings"])
    key = ApiKey.objects.get()
    before = stored_rows()
    for address in (issue, reverse("admin:baskets_partner_add"), settings, *pages_of(key)):
        values = {"kind": "server", "nonce": nonce(root, issue), "name": "X", "late_orders": "refuse"}
        assert root.post(address, values).status_code == 403
    assert stored_rows() == before


SETTINGS = {
    "late_orders": "accept",
    "hold": "1:30:00",
    "share_percent": "40",
    "origins": " https://b.example\nhttps://a.example\n",
    "reason": "new contract",
}


def settings_of(partner: Partner) -> dict[str, Any]:
    row = Partner.objects.values("late_orders", "hold_seconds", "share_percent", "orders_need_server_key", "origins").get(pk=partner.pk)
    return dict(row)


def confirmed(client: Client, address: str, **values: str) -> Any:
    """Ask for the preview of a change of settings, and confirm it."""
    seen = client.get(address).context["form"]["seen"].value()
    shown = post(client, address, SETTINGS | {"seen": seen} | values)
    return post(client, address, SETTINGS | {"seen": seen, "confirm": shown.context["confirm"]} | values)


def test_settings_are_previewed_changed_once_and_recorded_with_both_values(root: Client, partner: Partner) -> None:
    address = reverse("admin:baskets_partner_repair", args=[partner.pk, "change-settings"])
    before, seen = settings_of(partner), root.get(address).context["form"]["seen"].value()
    shown = post(root, address, SETTINGS | {"seen": seen})
    changes = {change.name: (str(change.before), str(change.after)) for change in shown.context["changes"] if change.is_changed}
    assert changes["Hold"] == ("30 min, the default of the service", "1 h 30 min")
    assert changes["Late order without stock"] == ("refuse when stock is gone", "accept, and record what is short")
    assert changes["Share of a product"] == ("no limit, the default of the service", "40 percent")
    assert set(changes) == {"Hold", "Late order without stock", "Share of a product", "Web origins"}
    assert settings_of(partner) == before
    form = SETTINGS | {"seen": seen, "confirm": shown.context["confirm"]}
    assert post(root, address, form).status_code == 302
    after = {"late_orders": "accept", "hold_seconds": 5400, "share_percent": 40, "origins": ["https://a.example", "https://b.example"]}
    assert settings_of(partner) == before | after
    entry = DeskEntry.objects.get()
    assert (entry.kind, entry.about, entry.subject, entry.note, entry.actor) == ("changed", "partner", partner.name, "new contract", "root")
    assert entry.data == {"before": {name: before[name] for name in after}, "after": after}
    # The page of then is stale, and of what is already so nothing is recorded.
    again = post(root, address, form)
    assert again.status_code == 409
    assert "changed by" in again.content.decode()
    now = root.get(address).context["form"]["seen"].value()
    assert "has these settings already" in post(root, address, SETTINGS | {"seen": now}).content.decode()
    assert DeskEntry.objects.count() == 1
    page = root.get(reverse("admin:baskets_partner_change", args=[partner.pk])).content.decode()
    for words in (
        "1 h 30 min",
        "40 percent",
        "accept, and record what is short",
        "https://a.example, https://b.example",
        "client keys too",
    ):
        assert words in page
    listed = root.get(reverse("admin:baskets_partner_changelist")).content.decode()
    assert ("40 percent" in listed, "client keys too" in listed) == (True, True)
    journal = root.get(reverse("admin:baskets_deskentry_changelist")).content.decode()
    assert re.search("share of a product.*default of the service.*\N{RIGHTWARDS ARROW}.*40 %", journal)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"reason": ""}, "Choose a reason or write one"),
        ({"origins": "*"}, "is not an origin"),
        ({"hold": "8 00:00:00"}, "A hold lasts from 1 to 604800 seconds"),
        ({"hold": "0:00:00"}, "A hold lasts from 1 to 604800 seconds"),
        ({"hold": "soon"}, "Enter a valid duration"),
        ({"share_percent": "101"}, "less than or equal to 100"),
        ({"share_percent": "0"}, "greater than or equal to 1"),
        ({"share_percent": "5", "share_percent_lifted": "on"}, "one of the two"),
        ({"late_orders": "maybe"}, "Select a valid choice"),
    ],
)
def test_wrong_settings_are_refused_on_the_page(values: dict[str, str], words: str, root: Client, partner: Partner) -> None:
    before = settings_of(partner)
    address = reverse("admin:baskets_partner_repair", args=[partner.pk, "change-settings"])
    seen = root.get(address).context["form"]["seen"].value()
    assert words in post(root, address, SETTINGS | {"seen": seen} | values).content.decode()
    assert settings_of(partner) == before
    assert not DeskEntry.objects.exists()


def test_settings_are_changed_with_the_permission_alone(viewer: Client, partner: Partner, sign_in: Callable[..., Client]) -> None:
    address = reverse("admin:baskets_partner_repair", args=[partner.pk, "change-settings"])
    page = reverse("admin:baskets_partner_change", args=[partner.pk])
    assert viewer.get(address).status_code == 403
    assert address not in viewer.get(page).content.decode()
    manager = sign_in("mia", permissions="view_")
    User.objects.get(username="mia").user_permissions.add(Permission.objects.get(codename="change_partner"))
    assert address in manager.get(page).content.decode()
    assert confirmed(manager, address, orders_need_server_key="on").status_code == 302
    assert Partner.objects.get().orders_need_server_key is True
    assert "server keys only" in viewer.get(page).content.decode()


def test_page_of_a_partner_shows_its_keys_issuers_and_webhooks(
    root: Client, viewer: Client, partner: Partner, sign_in: Callable[..., Client], django_assert_num_queries: Callable[..., Any]
) -> None:
    page = reverse("admin:baskets_partner_change", args=[partner.pk])
    for number in range(3):
        key, _ = api_keys.issue_api_key(partner_name=partner.name, actor=TESTER)
        issuer = token_issuers.add_issuer(
            partner_name=partner.name, name=f"login {number}", audience="a", keys_url="https://keys.example.com/", actor=TESTER
        ).issuer
        hook, _ = webhook_endpoints.create_webhook(partner_name=partner.name, url="https://hooks.example.com/", actor=TESTER)
        with django_assert_num_queries(9):
            body = viewer.get(page).content.decode()
    for model, pk in (("apikey", key.pk), ("tokenissuer", issuer.pk), ("webhookendpoint", hook.pk)):
        assert reverse(f"admin:baskets_{model}_change", args=[pk]) in body
    WebhookEndpoint.objects.filter(pk=hook.pk).update(failures=1, failing_since=Now(), problem="It answered with status 500.")
    body = root.get(page).content.decode()
    assert body.count("failing</span> since") == 1
    assert "It answered with status 500." in body
    adding = f"{reverse('admin:baskets_tokenissuer_add')}?partner={partner.pk}"
    assert adding in body
    assert f'<option value="{partner.pk}" selected>' in root.get(adding).content.decode()
    clerk = sign_in("carl", permissions="view_partner")
    assert "Webhooks</h2>" not in clerk.get(page).content.decode()


def test_lists_lead_superusers_to_the_pages_that_add(root: Client, viewer: Client) -> None:
    for model in ("partner", "tokenissuer"):
        adding = f'href="{reverse(f"admin:baskets_{model}_add")}"'
        listed = reverse(f"admin:baskets_{model}_changelist")
        assert adding in root.get(listed).content.decode()
        assert adding not in viewer.get(listed).content.decode()


def test_partner_is_created_whose_server_keys_alone_report_orders(root: Client) -> None:
    values = {"name": "Nova", "late_orders": "refuse", "orders_need_server_key": "on"}
    assert post(root, reverse("admin:baskets_partner_add"), values).status_code == 302
    assert Partner.objects.get(name="Nova").orders_need_server_key is True
