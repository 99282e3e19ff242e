"""Makes webhooks, delivers what is due, and lets time pass for an endpoint."""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import F

from baskets.domain.events import webhook_delivery, webhook_endpoints
from baskets.domain.events.payloads import message_id
from baskets.models import FeedPosition, WebhookBlockedBasket, WebhookDeliverer, WebhookEndpoint
from tests.domain.events.receivers import Receiver
from tests.factories import TESTER


def make(webhook_receiver: Receiver, **options: Any) -> tuple[WebhookEndpoint, str]:
    options = {"strict": True} | options
    return webhook_endpoints.create_webhook(partner_name="TV", url=webhook_receiver.url, actor=TESTER, **options)


def deliver() -> int:
    """Deliver all that is due, and tell how many events arrived."""
    return webhook_delivery.Deliverer(workers=16).run(once=True, stop=lambda: False).delivered


def ids_of_all() -> list[str]:
    return [message_id(place) for place in FeedPosition.objects.order_by("position")]


def failed_once(webhook_receiver: Receiver, status: int, **headers: str) -> WebhookEndpoint:
    """Fail to deliver the first event, and return the endpoint afterwards."""
    endpoint, _ = make(webhook_receiver, from_the_beginning=True)
    webhook_receiver.answer, webhook_receiver.headers = lambda _: status, {name.replace("_", "-"): value for name, value in headers.items()}
    assert deliver() == 0
    endpoint.refresh_from_db()
    assert len(webhook_receiver.calls) == 1
    return endpoint


def pause_of(endpoint: WebhookEndpoint) -> timedelta:
    """The time between a first failure and the next try: both are recorded by one reading of the database's clock."""
    assert endpoint.next_try_at is not None
    assert endpoint.failing_since is not None
    return endpoint.next_try_at - endpoint.failing_since


def database_now() -> datetime:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def wait(endpoint: WebhookEndpoint, **delta: float) -> None:
    """Let time pass for an endpoint."""
    past = timedelta(**delta)
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(next_try_at=F("next_try_at") - past, failing_since=F("failing_since") - past)
    WebhookBlockedBasket.objects.filter(endpoint=endpoint).update(
        next_try_at=F("next_try_at") - past, failing_since=F("failing_since") - past
    )
    WebhookDeliverer.objects.update(alive_until=F("alive_until") - past)
