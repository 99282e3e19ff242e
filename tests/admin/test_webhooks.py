"""Webhooks at the desk: the secret is shown once, and each change is a page with a reason, a confirmation and a line."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from baskets.domain import runner
from baskets.domain.events import feed, webhook_attempts, webhook_control, webhook_endpoints
from baskets.domain.events.webhook_attempts import Attempt
from baskets.models import Basket, DeskEntry, FeedPosition, WebhookBlockedBasket, WebhookChange, WebhookEndpoint
from tests.admin.conftest import Shop, post
from tests.factories import TESTER

pytestmark = pytest.mark.django_db
FORM = {"url": "https://hooks.example.com/baskets", "label": "back end", "kinds": ["checkout_ordered"]}


def filled(client: Client, address: str, **values: Any) -> dict[str, Any]:
    """The form of a fresh page, with what makes it good for one POST."""
    nonce = client.get(address).context["form"].initial["nonce"]
    return FORM | values | {"nonce": nonce, "csrfmiddlewaretoken": client.cookies["csrftoken"].value}


@pytest.fixture
def endpoint_of_shop(full_shop: Shop) -> WebhookEndpoint:
    """A webhook that has received all events so far."""
    endpoint, _ = webhook_endpoints.create_webhook(partner_name=full_shop.partner.name, url=FORM["url"], actor=TESTER)  # type: ignore[arg-type]
    return endpoint


def test_a_superuser_makes_a_webhook_and_sees_its_secret_once(root: Client, shop: Shop) -> None:
    address = reverse("admin:baskets_webhookendpoint_make", args=[shop.partner.pk])
    form = filled(root, address)
    page = root.post(address, form)
    assert page.status_code == 200
    secret = page.context["secret"]
    assert secret.startswith("whsec_")
    assert secret in page.content.decode()
    endpoint = WebhookEndpoint.objects.get()
    assert (endpoint.url, endpoint.kinds, endpoint.label) == (FORM["url"], FORM["kinds"], FORM["label"])
    assert WebhookChange.objects.get().actor == "root"
    again = root.post(address, form)
    assert b"was submitted before" in again.content
    assert WebhookEndpoint.objects.count() == 1
    for name in ("changelist", "change"):
        shown = root.get(reverse(f"admin:baskets_webhookendpoint_{name}", args=[endpoint.pk] if name == "change" else []))
        assert shown.status_code == 200
        assert secret.encode() not in shown.content
    assert b"checkout_ordered" not in shown.content
    assert b"<td>ordered</td>" in shown.content


def test_forbidden_address_is_refused_on_the_form(root: Client, shop: Shop) -> None:
    address = reverse("admin:baskets_webhookendpoint_make", args=[shop.partner.pk])
    page = root.post(address, filled(root, address, url="https://127.0.0.1/"))
    assert b"not on the public internet" in page.content
    assert WebhookEndpoint.objects.count() == 0


@pytest.mark.parametrize("who", ["viewer", "staff_without_rights", "anonymous"])
def test_only_superusers_create_webhooks(who: str, shop: Shop, request: pytest.FixtureRequest, stored_rows: Any) -> None:
    client: Client = request.getfixturevalue(who)
    before = stored_rows()
    address = reverse("admin:baskets_webhookendpoint_make", args=[shop.partner.pk])
    assert client.get(address).status_code in {302, 403}
    assert client.post(address, FORM).status_code in {302, 403}
    assert stored_rows() == before


@pytest.mark.parametrize(
    ("slug", "values", "state", "kind"),
    [("pause", {}, "active", "paused"), ("resume", {}, "paused", "resumed"), ("replay", {"since": "2020-01-01 00:00"}, "dead", "replayed")],
)
def test_a_change_is_shown_confirmed_and_kept(
    root: Client, endpoint_of_shop: WebhookEndpoint, slug: str, values: dict[str, str], state: str, kind: str
) -> None:
    WebhookEndpoint.objects.update(state=state)
    address = reverse("admin:baskets_webhookendpoint_repair", args=[endpoint_of_shop.pk, slug])
    assert root.get(address).status_code == 200
    form = values | {"reason": "ticket 12", "seen": "1"}
    page = post(root, address, form)
    if values:  # What it would do is shown first.
        assert WebhookChange.objects.count() == 1
        page = post(root, address, form | {"confirm": page.context["confirm"]})
    assert page.status_code == 302
    done = WebhookChange.objects.latest("pk")
    assert (done.kind, done.actor, done.reason) == (kind, "root", "ticket 12")
    again = post(root, address, form | {"confirm": "{}"})
    assert again.status_code in {200, 409}
    assert WebhookChange.objects.count() == 2


def test_who_may_only_look_changes_nothing(viewer: Client, endpoint_of_shop: WebhookEndpoint, stored_rows: Any) -> None:
    before = stored_rows()
    for slug in ("pause", "resume", "replay", "skip-event", "send-test"):
        address = reverse("admin:baskets_webhookendpoint_repair", args=[endpoint_of_shop.pk, slug])
        assert viewer.get(address).status_code == 403
        assert viewer.post(address, {"reason": "x", "seen": "1"}).status_code == 403
    assert stored_rows() == before


def test_the_ready_made_roles_look_and_repair() -> None:
    for name, verbs in {"Basket viewers": ["view"], "Basket repairers": ["repair", "view"]}.items():
        granted = Group.objects.get(name=name).permissions.filter(content_type__model="webhookendpoint")
        assert sorted({codename.partition("_")[0] for codename in granted.values_list("codename", flat=True)}) == verbs


def test_a_page_tells_how_many_events_wait(root: Client, endpoint_of_shop: WebhookEndpoint) -> None:
    WebhookEndpoint.objects.update(position=0)
    feed.assign_positions()
    page = root.get(reverse("admin:baskets_webhookendpoint_repair", args=[endpoint_of_shop.pk, "pause"]))
    assert b"Waiting events" in page.content
    assert f'<h1>Pause the webhook <small class="name"><bdi class="given">{endpoint_of_shop.url}<' in page.content.decode()


@pytest.fixture
def refusing(full_shop: Shop, endpoint_of_shop: WebhookEndpoint) -> WebhookEndpoint:
    """A webhook whose receiver refuses the last event of one basket."""
    basket = Basket.objects.get(user_id="ben")
    entry = FeedPosition.objects.filter(event__basket=basket).latest("position")
    WebhookBlockedBasket.objects.create(
        endpoint=endpoint_of_shop,
        basket=basket,
        position=entry.position,
        failures=3,
        failing_since=entry.event.at,
        next_try_at=entry.event.at,
        problem="It answered with status 400.",
    )
    return endpoint_of_shop


def test_refused_event_is_shown_skipped_once_and_recorded(root: Client, refusing: WebhookEndpoint) -> None:
    listed = reverse("admin:baskets_webhookendpoint_changelist")
    page = reverse("admin:baskets_webhookendpoint_change", args=[refusing.pk])
    skip = reverse("admin:baskets_webhookendpoint_repair", args=[refusing.pk, "skip-event"])
    for address in (f"{listed}?state=failing", page, reverse("admin:baskets_partner_change", args=[refusing.partner_id])):
        assert "1 event refused" in root.get(address).content.decode(), address
    assert "1 failing" in root.get(reverse("admin:index")).content.decode()
    body = root.get(page).content.decode()
    assert skip in body
    assert "It answered with status 400." in body
    shown = root.get(skip)
    position = shown.context["form"]["position"].field.choices[0][0]
    assert {change.name: (change.before, change.after) for change in shown.context["changes"] if change.is_changed} == {
        "Refused events": ("1", "0")
    }
    form = {"position": str(position), "reason": "malformed there", "seen": shown.context["form"]["seen"].value()}
    confirm = post(root, skip, form).context["confirm"]
    assert WebhookBlockedBasket.objects.exists()
    assert post(root, skip, form | {"confirm": confirm}).status_code == 302
    assert webhook_control.blocked_events(refusing) == []
    entry = DeskEntry.objects.latest("pk")
    assert (entry.kind, entry.about, entry.note, entry.data) == (
        *("changed", "webhookendpoint", "malformed there"),
        {"step": "skipped", "position": position},
    )
    assert post(root, skip, form | {"confirm": confirm}).status_code in {200, 409}
    assert WebhookChange.objects.filter(kind="skipped").count() == 1
    assert skip not in root.get(page).content.decode()
    assert list(root.get(listed, {"state": "failing"}).context["cl"].result_list) == []


def test_test_event_is_requested_with_a_reason_and_its_outcome_shown(
    root: Client, endpoint_of_shop: WebhookEndpoint, django_assert_num_queries: Any
) -> None:
    page = reverse("admin:baskets_webhookendpoint_change", args=[endpoint_of_shop.pk])
    address = reverse("admin:baskets_webhookendpoint_repair", args=[endpoint_of_shop.pk, "send-test"])
    assert address in root.get(page).content.decode()
    assert post(root, address, {"reason": "new receiver", "seen": "1"}).status_code == 302
    endpoint_of_shop.refresh_from_db()
    assert endpoint_of_shop.test_requested_at is not None
    entry = DeskEntry.objects.latest("pk")
    assert (entry.kind, entry.note, entry.actor) == ("tested", "new receiver", "root")
    for status, problem in ((204, ""), (500, "It answered with status 500.")):
        made = Attempt(endpoint_id=endpoint_of_shop.pk, position=None, status=status, duration=timedelta(milliseconds=41), problem=problem)
        runner.run(webhook_attempts.record_attempts, [made])
        with django_assert_num_queries(9):
            body = root.get(page).content.decode()
    for word in ("test event", "204", "acknowledged", "500", "It answered with status 500.", "41 ms"):
        assert word in body


def test_next_try_is_shown_while_an_active_webhook_waits_and_resume_ends_the_wait(root: Client, endpoint_of_shop: WebhookEndpoint) -> None:
    moment = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    pages = [
        reverse("admin:baskets_webhookendpoint_changelist"),
        reverse("admin:baskets_webhookendpoint_change", args=[endpoint_of_shop.pk]),
    ]
    resume = reverse("admin:baskets_webhookendpoint_repair", args=[endpoint_of_shop.pk, "resume"])
    assert [resume.encode() in root.get(page).content for page in pages] == [False, False]
    WebhookEndpoint.objects.update(failures=1, failing_since=moment, next_try_at=moment)
    shown = b'<time datetime="2030-01-02T03:04:05+00:00">'
    assert [shown in root.get(page).content for page in pages] == [True, True]
    assert resume.encode() in root.get(pages[1]).content
    assert post(root, resume, {"reason": "ticket 12", "seen": "1"}).status_code == 302
    endpoint_of_shop.refresh_from_db()
    assert (endpoint_of_shop.state, endpoint_of_shop.next_try_at, endpoint_of_shop.failures) == ("active", None, 0)
    WebhookEndpoint.objects.update(state="dead", next_try_at=moment)
    assert [shown in root.get(page).content for page in pages] == [False, False]
