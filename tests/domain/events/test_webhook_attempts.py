"""Attempts: what each one records, and that their number stays bounded for each endpoint and outcome."""

from datetime import timedelta

import pytest
from django.db.models import Max, Min

from baskets.domain.events import webhook_attempts, webhook_endpoints
from baskets.domain.events.webhook_attempts import MAX_KEPT_PER_OUTCOME, Attempt
from baskets.models import WebhookAttempt, WebhookEndpoint
from tests.factories import TESTER, PartnerFactory

pytestmark = pytest.mark.django_db


def make() -> WebhookEndpoint:
    partner = PartnerFactory()
    return webhook_endpoints.create_webhook(partner_name=partner.name, url="https://example.com/", actor=TESTER)[0]


def record(endpoint: WebhookEndpoint, position: int | None, status: int | None, problem: str = "") -> None:
    duration = timedelta(milliseconds=120)
    webhook_attempts.record_attempts(
        [Attempt(endpoint_id=endpoint.pk, position=position, status=status, duration=duration, problem=problem)]
    )


def test_an_attempt_has_its_status_its_duration_and_its_problem() -> None:
    endpoint = make()
    record(endpoint, 7, 204)
    record(endpoint, 8, None, "No response." + "x" * 300)
    record(endpoint, None, 500, "It answered with status 500.")
    latest = webhook_attempts.latest_attempts(endpoint_id=endpoint.pk, limit=2)
    assert [(attempt.position, attempt.acknowledged, attempt.status) for attempt in latest] == [(None, False, 500), (8, False, None)]
    assert (len(latest[1].problem), latest[1].duration) == (200, timedelta(milliseconds=120))


def test_the_oldest_attempts_of_the_same_endpoint_and_outcome_are_deleted() -> None:
    endpoint, other = make(), make()
    record(other, 1, 200)
    record(endpoint, 1, 500, "It answered with status 500.")
    for position in range(2, MAX_KEPT_PER_OUTCOME + 5):
        record(endpoint, position, 200)
    kept = WebhookAttempt.objects.filter(endpoint=endpoint)
    assert kept.filter(acknowledged=True).aggregate(Min("position"), Max("position")) == {
        "position__min": 5,
        "position__max": MAX_KEPT_PER_OUTCOME + 4,
    }
    assert (kept.filter(acknowledged=False).count(), WebhookAttempt.objects.filter(endpoint=other).count()) == (1, 1)


def test_a_request_that_ends_after_its_endpoint_was_deleted_leaves_no_attempt() -> None:
    deleted, other = make(), make()
    webhook_endpoints.delete_webhook(endpoint=deleted, reason="test", actor=TESTER)
    record(deleted, 7, 204)
    record(other, 7, 204)
    assert WebhookAttempt.objects.get().endpoint == other
