"""Webhook endpoints of partners, their delivery state, and the history of their changes."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from baskets.models.locking import LockableQuerySet


class WebhookEndpointQuerySet(LockableQuerySet["WebhookEndpoint"]):
    """Named queries for webhooks."""

    def failing(self) -> "WebhookEndpointQuerySet":
        """Active webhooks whose last attempt failed."""
        return self.filter(state="active", failing_since__isnull=False)


class WebhookEndpoint(models.Model):
    """One URL to which the events of a partner are delivered, one at a time, in the order of the feed.

    `position` is that of the last event that was delivered or skipped. During delivery the row carries a lease: only its
    holder delivers and writes the state.
    """

    class State(models.TextChoices):
        """Whether events are delivered."""

        ACTIVE = "active", "active"
        PAUSED = "paused", "paused by staff"
        DEAD = "dead", "given up: it failed for too long"

    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="webhooks")
    url = models.CharField(max_length=2000)
    label = models.CharField(max_length=100, blank=True)
    secret = models.BinaryField(editable=False, help_text="Encrypted; shown once, when it is made.")
    kinds = models.JSONField(default=list, help_text="Which kinds of events; none named: all.")
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    position = models.BigIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0, help_text="Tries that failed since the last one that did not.")
    failing_since = models.DateTimeField(null=True)
    next_try_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True, help_text="How the last try failed.")
    delivered_at = models.DateTimeField(null=True, help_text="The last delivery.")
    lease = models.UUIDField(null=True)
    leased_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        permissions = [
            ("repair_pause", "Can pause a webhook"),
            ("repair_resume", "Can resume a webhook"),
            ("repair_replay", "Can have events delivered again"),
        ]
        indexes = [
            models.Index(fields=["leased_until"], name="webhooks_to_deliver", condition=Q(state="active")),
            models.Index(fields=["failing_since"], name="webhooks_failing", condition=Q(failing_since__isnull=False, state="active")),
        ]
        constraints = [
            models.CheckConstraint(name="webhook_state_is_known", condition=Q(state__in=["active", "paused", "dead"])),
            models.CheckConstraint(name="webhook_position_is_not_negative", condition=Q(position__gte=0)),
            models.CheckConstraint(
                name="webhook_fails_since_its_first_failure",
                condition=Q(failures=0, failing_since__isnull=True) | Q(failures__gt=0, failing_since__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"webhook {self.pk} ({self.state})"

    @property
    def is_resumable(self) -> bool:
        """Whether delivery has stopped: paused, given up, or waiting for the next try after a failure."""
        return self.state != self.State.ACTIVE or self.next_try_at is not None


class WebhookChange(models.Model):
    """One change of an endpoint by staff or the service, with its reason. Never edited."""

    class Kind(models.TextChoices):
        """What was done."""

        CREATED = "created", "created"
        PAUSED = "paused", "paused"
        RESUMED = "resumed", "resumed"
        REPLAYED = "replayed", "set back, to deliver again"
        GIVEN_UP = "given_up", "given up"

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="changes")
    kind = models.CharField(max_length=10, choices=Kind)
    reason = models.CharField(max_length=500, blank=True)
    actor = models.CharField(max_length=200)
    position = models.BigIntegerField(help_text="Where the endpoint stood afterwards.")
    created_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                name="webhook_change_is_known",
                condition=Q(kind__in=["created", "paused", "resumed", "replayed", "given_up"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} (#{self.pk})"


class WebhookAttempt(models.Model):
    """One request to an endpoint, and its outcome. Only the latest of each endpoint are kept, see `webhook_attempts`.

    Names an event by its position and not by its public id, which would identify an erased user.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="attempts", db_index=False)
    position = models.BigIntegerField(null=True, help_text="Of the event in the feed; null for a test event.")
    acknowledged = models.BooleanField(help_text="Whether the receiver answered with a status from 200 to 299.")
    status = models.PositiveSmallIntegerField(null=True, help_text="The HTTP status of the response; null if there was none.")
    duration = models.DurationField(help_text="From the request to its outcome.")
    problem = models.CharField(max_length=200, blank=True, help_text="Why it failed.")
    ended_at = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["endpoint", "acknowledged", "-id"], name="webhook_attempts_latest")]
        constraints = [
            models.CheckConstraint(
                name="webhook_attempt_has_an_outcome",
                condition=Q(acknowledged=True, status__isnull=False, status__gte=200, status__lt=300, problem="")
                | (Q(acknowledged=False) & ~Q(problem="")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status or 'no response'} (#{self.pk})"
