"""A partner manages its webhooks with a server key: own ones only, each secret shown once, each change in the audit log."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.models import F
from django.test.utils import CaptureQueriesContext

from baskets.domain.events import feed, webhook_attempts, webhook_endpoints, webhook_secrets
from baskets.domain.events.webhook_attempts import Attempt
from baskets.models import DeskEntry, Event, FeedPosition, WebhookAttempt, WebhookBlockedBasket, WebhookChange, WebhookEndpoint, WebhookLane
from baskets.net.outgoing_urls import mask_url
from tests.api.conftest import Api, Sells, Unchanged
from tests.factories import TESTER

WEBHOOKS = "/baskets/webhooks"
URL = "https://shop.example.com/hooks/baskets"
UNKNOWN = (404, 404, "webhook_unknown")
DATABASE_NOW = "SELECT statement_timestamp()"


def database_now() -> Any:
    with connection.cursor() as cursor:
        cursor.execute(DATABASE_NOW)
        return cursor.fetchone()[0]


@pytest.fixture
def webhook(api: Api) -> Any:
    """A new webhook, as its creation returned it."""
    return api.post(WEBHOOKS, {"url": URL, "kinds": ["checkout_ordered", "item_placed"], "label": "orders"}).data


@pytest.fixture
def path(webhook: Any) -> str:
    """The path of the webhook."""
    return f"{WEBHOOKS}/{webhook['webhookId']}"


def journal() -> list[tuple[str, str, Any]]:
    """The entries about webhooks: what was done, by which kind of actor, and the details."""
    return list(DeskEntry.objects.filter(about="webhookendpoint").order_by("pk").values_list("kind", "actor_kind", "data"))


def signing_secrets() -> list[str]:
    return webhook_secrets.read_secrets(WebhookEndpoint.objects.get(), now=database_now())


def test_webhook_is_created_shown_and_listed_without_its_secret(api: Api, webhook: Any, path: str) -> None:
    secret = webhook.pop("secret")
    assert secret.startswith("whsec_")
    assert webhook | {"webhookId": "", "createdAt": ""} == {
        "webhookId": "", "url": URL, "kinds": ["checkout_ordered", "item_placed"], "label": "orders", "strict": False, "state": "active",
        "createdAt": "", "deliveredAt": None, "failingSince": None, "nextTryAt": None, "problem": None, "previousSecretUntil": None,
    }  # fmt: skip
    assert api.get(path).data == webhook
    assert api.get(WEBHOOKS).data == {"webhooks": [webhook]}
    assert signing_secrets() == [secret]
    assert WebhookLane.objects.count() == 64
    assert WebhookChange.objects.get().actor == str(api.key).split("_")[1]
    ((kind, actor, data),) = journal()
    assert (kind, actor, data["after"]["url"]) == ("created", "key", mask_url(URL))
    assert secret not in str(data)


def test_number_of_statements_is_bounded(api: Api, path: str) -> None:
    api.get(WEBHOOKS)
    for body in ({"label": "one"}, {"label": "two"}):
        with CaptureQueriesContext(connection) as seen:
            api.patch(path, body)
    assert len(seen) <= 11
    for _ in range(3):
        api.post(WEBHOOKS, {"url": URL})
    for address, most in ((WEBHOOKS, 2), (path, 2), (f"{path}/deliveries", 3)):
        with CaptureQueriesContext(connection) as seen:
            api.get(address)
        assert len(seen) <= most, address


def test_secret_responses_are_stored_for_no_idempotency_key(api: Api) -> None:
    first, second = (api.post(WEBHOOKS, {"url": URL}, Idempotency_Key="k1") for _ in range(2))
    assert first.data["webhookId"] != second.data["webhookId"]
    path = f"{WEBHOOKS}/{first.data['webhookId']}"
    assert api.delete(path, Idempotency_Key="k2").data == api.delete(path, Idempotency_Key="k2").data
    assert api.delete(path).refusal == UNKNOWN
    assert api.patch(path, {}, Idempotency_Key="k2").refusal in (UNKNOWN, (422, 422, "idempotency_key_reused"))


@pytest.mark.measured
@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"url"}),
        ({"url": "http://shop.example.com/"}, {"url"}),
        ({"url": "https://127.0.0.1/"}, {"url"}),
        ({"url": "https://[::1]/"}, {"url"}),
        ({"url": "https://169.254.169.254/latest"}, {"url"}),
        ({"url": "https://0x7f.1/"}, {"url"}),
        ({"url": "https://u:p@example.com/"}, {"url"}),
        ({"url": "https://example.com:22/"}, {"url"}),
        ({"url": "https://example.com/" + "x" * 2000}, {"url"}),
        ({"url": 7, "kinds": "all", "label": "\x07", "strict": "yes"}, {"url", "kinds", "label", "strict"}),
        ({"url": URL, "kinds": ["checkout_ordered", "no_such"]}, {"kinds[1]"}),
        ({"url": URL, "kinds": ["item_placed"] * 100}, {"kinds"}),
        ({"url": URL, "label": "x" * 101}, {"label"}),
    ],
)
def test_invalid_values_are_named_and_create_nothing(
    api: Api, webhook: Any, path: str, body: Any, fields: set[str], unchanged: Unchanged
) -> None:
    unchanged()
    assert api.post(WEBHOOKS, body).fields == fields
    if body:
        assert api.patch(path, body).fields == fields - {"strict"}


def test_change_is_partial_and_is_recorded_once(api: Api, path: str) -> None:
    changed = api.patch(path, {"url": URL + "/new", "kinds": None}).data
    assert (changed["url"], changed["kinds"], changed["label"]) == (URL + "/new", ["checkout_ordered", "item_placed"], "orders")
    assert api.patch(path, {"url": URL + "/new"}).data == changed
    assert api.patch(path, {"kinds": [], "label": ""}).data["kinds"] == []
    assert [change.kind for change in WebhookChange.objects.order_by("pk")] == ["created", "changed", "changed"]
    assert journal()[1][2] == {"before": {"url": mask_url(URL)}, "after": {"url": mask_url(URL + "/new")}}
    assert not [data for _, _, data in journal() if "/hooks/" in str(data)]


def test_webhook_is_paused_and_resumed(api: Api, path: str) -> None:
    assert [api.patch(path, {"active": active}).data["state"] for active in (False, False, True, True)] == [
        "paused",
        "paused",
        "active",
        "active",
    ]
    assert [change.kind for change in WebhookChange.objects.order_by("pk")] == ["created", "paused", "resumed"]
    assert {change.reason for change in WebhookChange.objects.all()} == {""}
    WebhookEndpoint.objects.update(state="dead", failures=1, failing_since=database_now(), problem="It answered with status 500.")
    assert api.get(path).data["state"] == "dead"
    assert api.patch(path, {"active": True}).data["state"] == "active"


def test_new_url_of_a_waiting_webhook_may_come_with_active(api: Api, path: str) -> None:
    now = database_now()
    WebhookEndpoint.objects.update(failures=3, failing_since=now, next_try_at=now + timedelta(hours=1), problem="x")
    changed = api.patch(path, {"url": URL + "/new", "active": True}).data
    assert (changed["url"], changed["state"], changed["nextTryAt"]) == (URL + "/new", "active", None)


def test_new_url_ends_the_wait_after_failures(api: Api, path: str, sells: Sells) -> None:
    sells("p1")
    api.place("p1")
    now = database_now()
    endpoint = WebhookEndpoint.objects.get()
    WebhookEndpoint.objects.update(failures=3, failing_since=now, next_try_at=now + timedelta(hours=1), problem="x")
    WebhookBlockedBasket.objects.create(
        endpoint=endpoint, basket=Event.objects.get().basket, position=1, failures=0, next_try_at=now + timedelta(hours=1)
    )
    changed = api.patch(path, {"url": URL + "/new"}).data
    assert (changed["failingSince"], changed["nextTryAt"], changed["problem"]) == (None, None, None)
    assert WebhookBlockedBasket.objects.filter(next_try_at__lte=database_now()).exists()


def test_deleted_webhook_is_gone_with_its_secrets(api: Api, webhook: Any, path: str) -> None:
    api.post(f"{path}/rotate-secret")
    webhook_attempts.record_attempts([Attempt(endpoint_id=WebhookEndpoint.objects.get().pk, position=1, status=200, duration=timedelta(0))])
    assert api.delete(path).data == {"webhooks": []}
    for call in (api.get(path), api.patch(path, {"active": True}), api.delete(path), api.get(f"{path}/deliveries")):
        assert call.refusal == UNKNOWN
    for action, body in (("replay", {"since": "2026-11-24T12:00:00Z"}), ("rotate-secret", {}), ("test", {})):
        assert api.post(f"{path}/{action}", body).refusal == UNKNOWN
    assert signing_secrets() == [""]
    assert not WebhookLane.objects.exists()
    assert not WebhookAttempt.objects.exists()
    assert [kind for kind, _, _ in journal()] == ["created", "changed", "removed"]


def test_webhooks_of_another_partner_do_not_exist(other_partner: Api, path: str, unchanged: Unchanged) -> None:
    unchanged()
    assert other_partner.get(WEBHOOKS).data == {"webhooks": []}
    for call in (
        other_partner.get(path),
        other_partner.patch(path, {"active": False}),
        other_partner.delete(path),
        other_partner.get(f"{path}/deliveries"),
    ):
        assert call.refusal == UNKNOWN
    for action, body in (("replay", {"since": "2026-11-24T12:00:00Z"}), ("rotate-secret", {}), ("test", {})):
        assert other_partner.post(f"{path}/{action}", body).refusal == UNKNOWN


@pytest.mark.parametrize(
    "change", [str.upper, lambda name: name + "0", lambda name: name.removeprefix("wh-"), lambda _: "1", lambda _: "wh-"]
)
def test_only_the_printed_id_names_a_webhook(api: Api, webhook: Any, change: Any) -> None:
    assert api.get(f"{WEBHOOKS}/{change(webhook['webhookId'])}").refusal == UNKNOWN


def test_number_of_webhooks_is_limited_for_keys_only(api: Api, other_partner: Api, webhook: Any, path: str, settings: Any) -> None:
    settings.BASKETS_WEBHOOKS_PER_PARTNER = 2
    assert api.post(WEBHOOKS, {"url": URL}).status == 200
    full = api.post(WEBHOOKS, {"url": URL})
    assert full.refusal == (422, 422, "webhooks_full")
    assert "data" not in full.body
    assert other_partner.post(WEBHOOKS, {"url": URL}).status == 200
    webhook_endpoints.create_webhook(partner_name=WebhookEndpoint.objects.earliest("pk").partner.name, url=URL, actor=TESTER)
    api.delete(path)
    assert api.post(WEBHOOKS, {"url": URL}).refusal == (422, 422, "webhooks_full")


# --- Secrets ---------------------------------------------------------------------------


def test_both_secrets_sign_during_the_overlap_and_one_afterwards(api: Api, webhook: Any, path: str) -> None:
    rotated = api.post(f"{path}/rotate-secret", {"overlapSeconds": 3600}).data
    assert rotated["secret"] != webhook["secret"]
    assert signing_secrets() == [rotated["secret"], webhook["secret"]]
    assert "secret" not in api.get(path).data
    until = WebhookEndpoint.objects.get().previous_secret_until
    assert timedelta(minutes=59) < until - database_now() <= timedelta(hours=1)  # type: ignore[operator]
    WebhookEndpoint.objects.update(previous_secret_until=F("previous_secret_until") - timedelta(hours=1))
    assert signing_secrets() == [rotated["secret"]]
    assert journal()[1] == ("changed", "key", {"step": "rotated", "after": {"overlap_seconds": 3600}})


def test_rotations_in_a_row_keep_the_secret_that_the_receiver_knows(api: Api, webhook: Any, path: str) -> None:
    made = [webhook["secret"]] + [api.post(f"{path}/rotate-secret").data["secret"] for _ in range(3)]
    assert signing_secrets() == made[::-1]
    shorter = api.post(f"{path}/rotate-secret", {"overlapSeconds": 1}).data
    assert signing_secrets() == [shorter["secret"], *made[::-1]]
    assert WebhookEndpoint.objects.get().previous_secret_until > database_now() + timedelta(hours=23)  # type: ignore[operator]
    assert len({*signing_secrets(), api.post(f"{path}/rotate-secret").data["secret"]}) == 6
    assert len(signing_secrets()) == 5


def test_leaked_secret_ends_at_once(api: Api, path: str) -> None:
    api.post(f"{path}/rotate-secret")
    ended = api.post(f"{path}/rotate-secret", {"overlapSeconds": 0}).data
    assert (signing_secrets(), ended["previousSecretUntil"]) == ([ended["secret"]], None)


def test_secret_that_cannot_be_decrypted_is_replaced(api: Api, path: str) -> None:
    WebhookEndpoint.objects.update(secret=b"")
    rotated = api.post(f"{path}/rotate-secret").data
    assert signing_secrets() == [rotated["secret"]]


@pytest.mark.parametrize("seconds", [-1, 604_801, "60", 1.5, True])
def test_overlap_has_bounds(api: Api, path: str, seconds: Any, unchanged: Unchanged) -> None:
    unchanged()
    assert api.post(f"{path}/rotate-secret", {"overlapSeconds": seconds}).fields == {"overlapSeconds"}


# --- Deliveries ------------------------------------------------------------------------


def test_latest_deliveries_name_their_events(api: Api, path: str, sells: Sells) -> None:
    sells("p1")
    api.place("p1")
    feed.assign_positions()
    place = FeedPosition.objects.get()
    endpoint = WebhookEndpoint.objects.get().pk
    second = timedelta(seconds=1)
    webhook_attempts.record_attempts(
        [
            Attempt(endpoint_id=endpoint, position=place.position, status=None, duration=second, problem="No whole answer within 1 s."),
            Attempt(endpoint_id=endpoint, position=place.position, status=204, duration=second / 8),
            Attempt(endpoint_id=endpoint, position=None, status=500, duration=second, problem="It answered with status 500."),
            Attempt(endpoint_id=endpoint, position=place.position + 7, status=200, duration=second),
        ]
    )
    purged, test, done, failed = (
        [delivery[name] for name in ("eventId", "kind", "test", "acknowledged", "status", "durationMs", "problem")]
        for delivery in api.get(f"{path}/deliveries").data["deliveries"]
    )
    name = api.get("/baskets/events").body["data"][0]["id"]
    assert purged == [None, None, False, True, 200, 1000, None]
    assert test == [None, None, True, False, 500, 1000, "It answered with status 500."]
    assert done == [name, "item_placed", False, True, 204, 125, None]
    assert failed == [name, "item_placed", False, False, None, 1000, "No whole answer within 1 s."]


def test_test_message_is_requested(api: Api, path: str) -> None:
    api.patch(path, {"active": False})
    assert api.post(f"{path}/test").data["state"] == "paused"
    assert WebhookEndpoint.objects.get().test_requested_at is not None
    assert journal()[-1][:2] == ("tested", "key")


def test_replay_sets_the_webhook_back(api: Api, path: str, sells: Sells) -> None:
    sells("p1")
    api.place("p1")
    assert api.post(f"{path}/replay", {"since": "2026-11-24T12:00:00Z"}).refusal == (422, 422, "nothing_to_replay")
    feed.assign_positions()
    end = FeedPosition.objects.get().position
    WebhookEndpoint.objects.update(position=end, state="dead")
    WebhookLane.objects.update(position=end)
    event = Event.objects.get()
    assert api.post(f"{path}/replay", {"since": (event.at + timedelta(seconds=1)).isoformat()}).refusal == (422, 422, "nothing_to_replay")
    assert api.post(f"{path}/replay", {"since": event.at.isoformat()}).data["state"] == "active"
    assert set(WebhookLane.objects.values_list("position", flat=True)) == {end - 1}
    assert WebhookEndpoint.objects.get().position == end - 1


@pytest.mark.parametrize("since", [None, 7, "yesterday", "2026-11-24T12:00:00", "0001-01-01T00:00:00+14:00", "24 Nov 2026", ""])
def test_replay_needs_a_moment(api: Api, path: str, since: Any, unchanged: Unchanged) -> None:
    unchanged()
    assert api.post(f"{path}/replay", {"since": since}).fields == {"since"}
