"""The commands for webhooks: create, change, and deliver until a stop signal."""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from baskets.domain.events import feed
from baskets.domain.events.payloads import message_id
from baskets.models import FeedPosition, WebhookEndpoint
from baskets.models.basket_snapshot import Owner
from tests.commands.conftest import Run
from tests.domain.events.receivers import receiver
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory
from tests.waiting import eventually

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shopper(settings: Any) -> User:
    """A user of TV."""
    settings.BASKETS_INTERNAL_ADDRESSES = True
    ProductFactory(product_id="shirt")
    return User(Owner(partner_id=PartnerFactory(name="TV").pk, user_id="anna"))


def test_a_webhook_is_created_delivered_paused_and_replayed(run: Run, shopper: User) -> None:
    with receiver() as hook:
        assert run("create_webhook", "TV", hook.url, "--dry-run").out == ""
        assert WebhookEndpoint.objects.count() == 0
        made = run("create_webhook", "TV", hook.url, "--kind", "item_placed", "--label", "back end")
        assert (made.code, made.out[:6]) == (0, "whsec_")
        number = str(WebhookEndpoint.objects.get().pk)
        assert f"Webhook {number} of partner 'TV'; its secret, shown once:" in made.err
        shopper.place("shirt", 2)
        assert run("deliver_webhooks", "--once", "--json").data == {"delivered": 1, "failed": 0, "stopped": False}
        ((headers, body),) = hook.calls
        Webhook(made.out.strip()).verify(body, headers)
        assert run("change_webhook", number, "--pause", "--reason", "moving").out == f"Webhook {number} is paused.\n"
        shopper.place("shirt", 3)
        assert run("deliver_webhooks", "--once").out == "Delivered 0 events; 0 tries failed.\n"
        replay = ("change_webhook", number, "--replay-since", "2020-01-01T00:00:00Z", "--reason", "lost")
        assert run(*replay, "--dry-run").out == f"Webhook {number} would be active.\n"
        assert WebhookEndpoint.objects.get().state == "paused"
        assert run(*replay).code == 0
        assert run("deliver_webhooks", "--once").out == "Delivered 2 events; 0 tries failed.\n"
        hook.answer = lambda _: 500
        shopper.place("shirt", 4)
        failed = run("deliver_webhooks", "--once")
        assert (failed.code, failed.out) == (1, "Delivered 0 events; 1 tries failed.\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create_webhook", "Unknown", "https://example.com/"), 1),
        (("create_webhook", "TV", "ftp://example.com/"), 1),
        (("create_webhook", "TV", "https://example.com/", "--kind", "all"), 2),
        (("change_webhook", "1", "--pause", "--reason", "x"), 1),
        (("change_webhook", "1", "--pause"), 2),
        (("change_webhook", "1", "--pause", "--resume", "--reason", "x"), 2),
        (("deliver_webhooks", "--workers", "0"), 2),
    ],
)
def test_an_impossible_change_is_refused(run: Run, shopper: User, arguments: tuple[str, ...], code: int) -> None:
    ended = run(*arguments)
    assert (ended.code, ended.out) == (code, "")
    assert "Traceback" not in ended.err
    assert WebhookEndpoint.objects.count() == 0


def test_it_runs_until_a_stop_signal_and_continues_after_a_kill(run: Run, process: Callable[..., Any], shopper: User) -> None:
    with receiver() as hook:
        run("create_webhook", "TV", hook.url)
        environment = {"BASKETS_INTERNAL_ADDRESSES": "1"}
        staying = process("deliver_webhooks", "--json", env=environment)
        shopper.place("shirt", 1)
        hook.wait_for(1)  # It is up, and knows what to do with a signal.
        killed = process("deliver_webhooks", "--json", env=environment)
        for count in range(2, 6):
            shopper.place("shirt", count)
        hook.wait_for(5)
        killed.kill()
        staying.send_signal(signal.SIGTERM)
        out, err = staying.communicate(timeout=30)
        killed.communicate(timeout=30)
        assert (staying.returncode, json.loads(out)["stopped"]) == (0, True), err
        assert list(dict.fromkeys(hook.ids)) == [message_id(place) for place in FeedPosition.objects.order_by("event_id")]


def test_killed_deliverers_lose_nothing_and_keep_the_order_of_each_basket(run: Run, process: Callable[..., Any], shopper: User) -> None:
    """Two deliverers share a webhook; each is killed and replaced while events happen. First arrivals are complete and in order."""
    environment = {"BASKETS_INTERNAL_ADDRESSES": "1"}
    users = [shopper.beside(f"user-{number}") for number in range(24)]
    with receiver() as hook:
        run("create_webhook", "TV", hook.url)
        hook.answer = lambda number: 503 if number % 50 == 0 else 200
        deliverers = [process("deliver_webhooks", "--json", env=environment) for _ in range(2)]
        for count in range(1, 9):
            for user in users:
                user.place("shirt", count)
            if count in {4, 7}:
                hook.wait_for(20 * count - 60)
                killed = deliverers.pop(0)
                killed.kill()
                killed.communicate(timeout=30)
                deliverers.append(process("deliver_webhooks", "--json", env=environment))
        expected = FeedPosition.objects.filter(partner_id=shopper.owner.partner_id)
        assert eventually(lambda: len(set(hook.ids)) >= 8 * len(users))
        for deliverer in deliverers:
            deliverer.send_signal(signal.SIGTERM)
        for deliverer in deliverers:
            deliverer.communicate(timeout=30)
        feed.assign_positions()
        assert set(hook.ids) == {message_id(place) for place in expected}
        arrived: dict[str, list[int]] = {}
        for event in [json.loads(body)["data"] for _, body in hook.calls]:
            numbers = arrived.setdefault(event["userId"], [])
            if event["number"] not in numbers:  # The first arrival counts.
                numbers.append(event["number"])
        assert all(numbers == list(range(1, 9)) for numbers in arrived.values()), arrived
