"""Sends one message to a webhook, signed by the Standard Webhooks scheme, and reads the outcome. Stores nothing."""

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from types import MappingProxyType
from typing import Any
from uuid import uuid4

from standardwebhooks.webhooks import Webhook

from baskets import conf, tracing
from baskets.domain.events.payloads import FeedEntry, event_payload
from baskets.domain.events.webhook_failures import MAX_DELAY, Failure
from baskets.domain.events.webhook_secrets import read_secrets
from baskets.domain.timestamps import format_timestamp
from baskets.encryption import UnreadableSecret
from baskets.models import WebhookEndpoint
from baskets.net import http_client, outgoing_urls
from baskets.net.kept_connections import KeptConnections

# The type of a test message.
TEST_TYPE = "webhook_test"
SECONDS_PATTERN = re.compile(r"[0-9]+(\.[0-9]+)?")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one request.

    :param failure: None if the receiver acknowledged the message.
    :param status: the HTTP status; None without a response.
    """

    failure: Failure | None
    status: int | None
    duration: timedelta


class Signers:
    """What signs the messages of an endpoint. Decrypts the secrets once, which costs as much as to sign several messages.

    :param endpoint: as it is stored now; a rotation needs new signers.
    """

    def __init__(self, endpoint: WebhookEndpoint) -> None:
        self._endpoint = endpoint
        self._until = endpoint.previous_secret_until
        self._signers: list[Webhook] | None = None

    def at(self, now: datetime) -> list[Webhook]:
        """Return the signers of a message that is sent now: the latest secret first.

        :param now: the database's clock.
        :raises UnreadableSecret: a secret cannot be decrypted.
        :raises ValueError: a secret is not in the form of Standard Webhooks.
        """
        if self._signers is None or (self._until is not None and now >= self._until):
            if self._until is not None and now >= self._until:
                self._until = None
            self._signers = [Webhook(secret) for secret in read_secrets(self._endpoint, now=now)]
        return self._signers


def send_event(
    endpoint: WebhookEndpoint, entry: FeedEntry, *, signers: Signers, now: datetime, kept: KeptConnections | None = None
) -> Outcome:
    """Send one event. Nothing is read from the database.

    :param endpoint: with its partner.
    :param now: the database's clock.
    """
    event = event_payload(entry, sandbox=endpoint.partner.is_sandbox)
    message = {"type": event["kind"], "timestamp": event["at"], "data": event}
    return send_message(endpoint, name=event["id"], message=message, signers=signers, now=now, kept=kept, tracking=entry.tracking)


def send_test(endpoint: WebhookEndpoint, *, now: datetime, kept: KeptConnections | None = None) -> Outcome:
    """Send a message of the type `webhook_test`, which is of no event.

    :param now: the database's clock.
    """
    message = {"type": TEST_TYPE, "timestamp": format_timestamp(now), "data": {"webhookId": public_name(endpoint)}}
    return send_message(endpoint, name=f"test-{uuid4().hex}", message=message, signers=Signers(endpoint), now=now, kept=kept)


def public_name(endpoint: WebhookEndpoint) -> str:
    """Return the id by which the partner knows an endpoint."""
    return f"wh-{endpoint.public_id.hex}"


def send_message(
    endpoint: WebhookEndpoint,
    *,
    name: str,
    message: dict[str, Any],
    signers: Signers,
    now: datetime,
    kept: KeptConnections | None = None,
    tracking: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """Send one message, signed with the secret, and with the previous secret during its overlap.

    :param name: the id of the message.
    :param now: the database's clock.
    :param tracking: of the event.
    """
    try:
        signing = signers.at(now)
    except (UnreadableSecret, ValueError):
        problem = "The secret cannot be decrypted: its key is not known, or it was stored for another webhook."
        return Outcome(failure=Failure(problem=problem, by_event=False), status=None, duration=timedelta(0))
    body, sent_at = json.dumps(message, ensure_ascii=False), now.astimezone(UTC)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "baskets-webhooks",
        "webhook-id": name,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(signer.sign(name, sent_at, body) for signer in signing),
    }
    started = time.monotonic()
    with tracing.delivery(message["type"], url=endpoint.url, headers=headers, tracking=tracking) as span:
        status, failure = _exchange(endpoint.url, headers=headers, body=body.encode(), kept=kept)
        if span:
            span.end(status=status, failed=failure is not None)
    return Outcome(failure=failure, status=status, duration=timedelta(seconds=time.monotonic() - started))


def _exchange(url: str, *, headers: dict[str, str], body: bytes, kept: KeptConnections | None) -> tuple[int | None, Failure | None]:
    """Send a request and read its response.

    :returns: the status, None without a response; and the failure, None if the receiver acknowledged the message.
    """
    timeout = conf.webhook_timeout().total_seconds()
    try:
        reply = http_client.send_request(url, method="POST", headers=headers, body=body, timeout_seconds=timeout, kept=kept)
    except outgoing_urls.ForbiddenUrl as problem:
        return None, Failure(problem=str(problem), by_event=False)
    except http_client.RequestFailed as problem:
        return None, Failure(problem=str(problem), by_event=problem.connected)
    return reply.status, None if 200 <= reply.status < 300 else _read_failure(reply)


def _read_failure(reply: http_client.Response) -> Failure:
    """Read the response of a receiver that does not acknowledge.

    Honors `Retry-After` with every status: a number of seconds, or a date. Ignores any other value.
    """
    problem, gone = f"It answered with status {reply.status}", reply.status == HTTPStatus.GONE
    text = reply.headers.get("Retry-After", "").strip()
    if SECONDS_PATTERN.fullmatch(text):
        pause = timedelta(seconds=min(float(text), MAX_DELAY.total_seconds()))
        return Failure(problem=f"{problem} and requested a pause.", gone=gone, pause=pause)
    try:
        not_before = parsedate_to_datetime(text)
        # The date format without a zone (asctime) is in UTC.
        not_before = (not_before if not_before.tzinfo else not_before.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return Failure(problem=f"{problem}.", gone=gone)
    return Failure(problem=f"{problem} and requested a pause.", gone=gone, not_before=not_before)
