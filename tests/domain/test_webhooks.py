"""Webhooks: signed, in order, at least once; a receiver that fails, hangs or redirects stops its own stream only."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.db import connection
from django.db.models import F
from standardwebhooks.webhooks import Webhook

from baskets import outside
from baskets.domain import checker, deliveries, feed, webhooks
from baskets.domain.messages import message_id
from baskets.domain.partners import PartnerUnknown, UnusableValue
from baskets.domain.repair import NotRepairable, ReasonMissing, StateMoved
from baskets.models import Event, FeedPosition, Partner, WebhookEndpoint
from baskets.models.contents import Owner
from tests.domain.receivers import Receiver, receiver
from tests.domain.worlds import User
from tests.factories import TESTER, PartnerFactory, ProductFactory
from tests.races.barrier import together

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def internal(settings: Any) -> None:
    """The receivers of the tests are on this machine."""
    settings.BASKETS_INTERNAL_ADDRESSES = True


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """A receiver."""
    with receiver() as running:
        yield running


@pytest.fixture
def anna() -> User:
    """A user, whose partner has no webhook yet."""
    ProductFactory(product_id="shirt", unsold=100)
    return User(Owner(partner_id=PartnerFactory(name="TV").pk, user_id="anna"))


def make(hook: Receiver, **options: Any) -> tuple[WebhookEndpoint, str]:
    return webhooks.create_webhook(partner_name="TV", url=hook.url, actor=TESTER, **options)


def deliver() -> int:
    """Deliver all that is due, and tell how many events arrived."""
    delivered = 0
    while turn := deliveries.deliver_next():
        delivered += turn.delivered
    return delivered


def ids_of_all() -> list[str]:
    return [message_id(place) for place in FeedPosition.objects.order_by("position")]


def wait(endpoint: WebhookEndpoint, **delta: float) -> None:
    """Let time pass for an endpoint."""
    past = timedelta(**delta)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
        next_try_at=F("next_try_at") - past, failing_since=F("failing_since") - past, leased_until=F("leased_until") - past
    )


@pytest.mark.parametrize("foreign", ["another webhook's secret", "a customer id in the former format", "no ciphertext"])
def test_a_secret_that_is_not_its_rows_signs_nothing_and_is_a_visible_failure(
    anna: User, hook: Receiver, settings: Any, foreign: str
) -> None:
    settings.BASKETS_ENCRYPTION_KEYS = [key := Fernet.generate_key().decode()]
    endpoint, other = make(hook)[0], make(hook)[0]
    ciphertext = {
        "another webhook's secret": bytes(other.secret),
        "a customer id in the former format": Fernet(key).encrypt(b"c"),
        "no ciphertext": b"",
    }[foreign]
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(secret=ciphertext)
    anna.place("shirt", 1)
    assert deliver() == 1  # The other webhook goes on.
    assert len(hook.calls) == 1
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.problem) == (
        1,
        "The secret cannot be decrypted: its key is not known, or it was stored for another webhook.",
    )


def test_an_event_arrives_signed_and_as_the_feed_tells_it(anna: User, hook: Receiver) -> None:
    anna.place("shirt", 1)
    endpoint, secret = make(hook)
    anna.place("shirt", 2)
    assert deliver() == 1
    ((headers, body),) = hook.calls
    assert Webhook(secret).verify(body, headers) == json.loads(body)
    message = json.loads(body)
    assert (message["type"], message["data"]["id"], headers["webhook-id"]) == ("item_placed", ids_of_all()[1], ids_of_all()[1])
    assert (message["data"]["userId"], message["data"]["number"], message["timestamp"]) == ("anna", 2, message["data"]["at"])
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.problem, endpoint.lease) == (0, "", None)
    assert endpoint.delivered_at is not None
    assert secret.encode() not in bytes(endpoint.secret)
    assert deliver() == 0
    assert checker.check() == []


def test_an_endpoint_may_be_told_of_everything_or_of_some_kinds(anna: User, hook: Receiver) -> None:
    anna.place("shirt", 1)
    make(hook, kinds=["checkout_ordered"], from_the_beginning=True)
    with receiver() as second:
        make(second, from_the_beginning=True)
        anna.start()
        anna.finish(ordered=True)
        other = User(Owner(partner_id=PartnerFactory(name="Other").pk, user_id="anna"))
        other.place("shirt")
        assert deliver() == 4
        assert second.ids == ids_of_all()[:3]
    assert hook.ids == ids_of_all()[2:3]
    assert set(WebhookEndpoint.objects.values_list("position", flat=True)) == {4}


def test_a_failure_stops_the_stream_and_is_tried_again_later_and_later(anna: User, hook: Receiver) -> None:
    endpoint, _ = make(hook)
    for count in range(1, 4):
        anna.place("shirt", count)
    hook.answer = lambda number: 200 if number in {1, 5, 6} else 500
    assert deliver() == 1
    delays = []
    for failures in range(1, 4):
        endpoint.refresh_from_db()
        assert (endpoint.failures, endpoint.problem) == (failures, "It answered with status 500.")
        assert endpoint.next_try_at is not None
        assert endpoint.failing_since is not None
        assert endpoint.leased_until is not None
        delays.append(endpoint.next_try_at - endpoint.leased_until)
        assert deliver() == 0
        wait(endpoint, hours=2)
        delivered = deliver()
    assert delivered == 2
    assert [delay > timedelta(seconds=2 * 2**n) for n, delay in enumerate(delays)] == [True] * 3
    events = ids_of_all()
    assert hook.ids == [events[0], events[1], events[1], events[1], events[1], events[2]][: len(hook.ids)]
    endpoint.refresh_from_db()
    assert (endpoint.failures, endpoint.failing_since, endpoint.next_try_at) == (0, None, None)


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 503])
def test_anything_but_success_is_a_failure_and_no_redirect_is_followed(anna: User, hook: Receiver, status: int) -> None:
    endpoint, _ = make(hook)
    anna.place("shirt", 1)
    hook.answer = lambda _: status
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert (endpoint.state, endpoint.problem) == ("active", f"It answered with status {status}.")
    assert len(hook.calls) == 1


def test_a_receiver_that_hangs_is_left_after_its_time_and_keeps_nobody_else(anna: User, hook: Receiver, settings: Any) -> None:
    settings.BASKETS_WEBHOOK_TIMEOUT_SECONDS = 1
    endpoint, _ = make(hook)
    hook.hang = threading.Event()
    with receiver() as second:
        make(second)
        anna.place("shirt", 1)
        assert deliver() == 1
        assert len(second.calls) == 1
    endpoint.refresh_from_db()
    assert endpoint.problem == "No whole answer within 1 s."


def test_an_endpoint_that_fails_for_days_is_given_up_and_resumed_where_it_stood(anna: User, hook: Receiver) -> None:
    endpoint, _ = make(hook)
    anna.place("shirt", 1)
    hook.answer = lambda _: 500
    deliver()
    wait(endpoint, days=4)
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert endpoint.state == "dead"
    wait(endpoint, days=4)
    assert deliver() == 0
    assert len(hook.calls) == 2
    given_up = endpoint.changes.latest("pk")
    assert (given_up.kind, given_up.actor, given_up.reason) == ("given_up", "deliver_webhooks", "It answered with status 500.")
    hook.answer = lambda _: 204
    webhooks.resume(endpoint=endpoint, expected_changes=2, reason="mended", actor=TESTER)
    assert deliver() == 1


def test_an_endpoint_that_says_it_is_gone_is_given_up_at_once(anna: User, hook: Receiver) -> None:
    endpoint, _ = make(hook)
    anna.place("shirt", 1)
    hook.answer = lambda _: 410
    deliver()
    endpoint.refresh_from_db()
    assert endpoint.state == "dead"


def test_a_crash_after_the_call_sends_the_event_once_more_under_its_id(anna: User, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint, _ = make(hook)
    anna.place("shirt", 1)
    with monkeypatch.context() as crashing:
        crashing.setattr(deliveries, "DELIVERED", "SELECT 1/0 AS crash, %(position)s::bigint, %(id)s::bigint, %(lease)s::uuid -- RETURNING")
        with pytest.raises(Exception, match="division by zero"):
            deliver()
    assert deliver() == 0  # The lease of who crashed has not run out.
    wait(endpoint, minutes=5)
    assert deliver() == 1
    assert hook.ids == ids_of_all() * 2


def test_deliverers_side_by_side_send_nothing_at_once_and_all_in_order(anna: User, hook: Receiver) -> None:
    make(hook)
    for count in range(1, 31):
        anna.place("shirt", count)
    outcomes = together([deliver] * 6)
    assert sum(outcomes) == 30
    assert hook.most_at_once == 1
    assert hook.ids == ids_of_all()


def test_no_call_is_made_inside_a_transaction(anna: User, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    make(hook)
    anna.place("shirt", 1)
    seen = []
    call = outside.call

    def watched(*args: Any, **options: Any) -> outside.Reply:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype IN ('transactionid', 'advisory')")
            seen.append((connection.in_atomic_block, cursor.fetchone()[0]))
        return call(*args, **options)

    monkeypatch.setattr(outside, "call", watched)
    assert deliver() == 1
    assert seen == [(False, 0)]


def test_what_is_paused_is_told_of_nothing_and_of_everything_afterwards(anna: User, hook: Receiver) -> None:
    endpoint, _ = make(hook)
    webhooks.pause(endpoint=endpoint, expected_changes=1, reason="moving", actor=TESTER)
    anna.place("shirt", 1)
    assert deliver() == 0
    webhooks.resume(endpoint=endpoint, expected_changes=2, reason="moved", actor=TESTER)
    assert deliver() == 1


def test_a_replay_sends_again_what_happened_since_a_moment(anna: User, hook: Receiver) -> None:
    endpoint, _ = make(hook)
    for count in range(1, 4):
        anna.place("shirt", count)
    assert deliver() == 3
    since = Event.objects.get(number=2).at
    webhooks.replay(endpoint=endpoint, since=since, expected_changes=1, reason="lost them", actor=TESTER)
    wait(endpoint, minutes=5)
    assert deliver() == 2
    events = ids_of_all()
    assert hook.ids == [*events, *events[1:]]
    with pytest.raises(NotRepairable):
        webhooks.replay(endpoint=endpoint, since=datetime.now(UTC) + timedelta(days=1), expected_changes=2, reason="x", actor=TESTER)


def test_a_change_upon_an_old_page_without_a_reason_or_to_the_same_state_is_refused(anna: User, hook: Receiver) -> None:
    endpoint, _ = make(hook)
    with pytest.raises(StateMoved):
        webhooks.pause(endpoint=endpoint, expected_changes=0, reason="x", actor=TESTER)
    with pytest.raises(ReasonMissing):
        webhooks.pause(endpoint=endpoint, expected_changes=1, reason=" ", actor=TESTER)
    with pytest.raises(NotRepairable):
        webhooks.resume(endpoint=endpoint, expected_changes=1, reason="x", actor=TESTER)
    assert webhooks.changes_of(endpoint) == 1


@pytest.mark.parametrize(
    "url",
    ["http://example.com/", "https://127.0.0.1/x", "https://[::1]/", "https://10.0.0.1/", "https://169.254.169.254/", "ftp://example.com/",
     "https://user:word@example.com/", "https://", "nonsense", "https://example.com/" + 2000 * "x"],
)  # fmt: skip
def test_an_address_that_may_not_be_called_is_refused(anna: User, settings: Any, url: str) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = False
    with pytest.raises(UnusableValue):
        webhooks.create_webhook(partner_name="TV", url=url, actor=TESTER)
    assert WebhookEndpoint.objects.count() == 0


def test_an_address_that_has_become_internal_is_not_called(anna: User, hook: Receiver, settings: Any) -> None:
    """Checked when it is made, and again with every call, after its name was resolved."""
    endpoint, _ = make(hook)
    anna.place("shirt", 1)
    settings.BASKETS_INTERNAL_ADDRESSES = False
    WebhookEndpoint.objects.update(url="https://localhost/hook")
    assert deliver() == 0
    assert hook.calls == []
    endpoint.refresh_from_db()
    assert endpoint.problem == "The host is not on the public internet."


def test_who_and_what_must_be_known(anna: User, hook: Receiver) -> None:
    with pytest.raises(PartnerUnknown):
        webhooks.create_webhook(partner_name="Nobody", url=hook.url, actor=TESTER)
    for wrong in ({"kinds": ["everything"]}, {"label": "\x00"}):
        with pytest.raises(UnusableValue):
            make(hook, **wrong)
    assert Partner.objects.count() == 1


def test_a_new_webhook_begins_now_also_where_nobody_has_read_the_feed(anna: User, hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "BATCH", 2)
    for count in range(1, 6):
        anna.place("shirt", count)
    endpoint, _ = make(hook)
    assert endpoint.position == 5
    assert deliver() == 0
    anna.place("shirt", 9)
    assert deliver() == 1
