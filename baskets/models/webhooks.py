"""Webhook endpoints of partners, their delivery state, and the history of their changes."""

from django.contrib.postgres.functions import RandomUUID
from django.db import models
from django.db.models import Count, Exists, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce, Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.models.locking import LockableQuerySet


class WebhookEndpointQuerySet(LockableQuerySet["WebhookEndpoint"]):
    """Named queries for webhooks."""

    def present(self) -> "WebhookEndpointQuerySet":
        """Webhooks that are not deleted."""
        return self.exclude(state="deleted")

    def failing(self) -> "WebhookEndpointQuerySet":
        """Webhooks that need a look: the last attempt failed, an event is refused, or delivery was given up."""
        return self.filter(is_failing())

    def with_refused(self) -> "WebhookEndpointQuerySet":
        """Annotate the number of events that the receiver refuses, and that block their baskets, as `refused`."""
        blocks = WebhookBlockedBasket.objects.filter(endpoint=OuterRef("pk"), failures__gt=0).order_by().values("endpoint")
        return self.annotate(refused=Coalesce(Subquery(blocks.annotate(number=Count("pk")).values("number")), 0))


def is_failing() -> Q:
    """Build the condition of `WebhookEndpointQuerySet.failing`, which has one index for each of its parts."""
    refused = Exists(WebhookBlockedBasket.objects.filter(endpoint=OuterRef("pk"), failures__gt=0))
    return Q(state="dead") | Q(state="active", failing_since__isnull=False) | (Q(state="active") & Q(refused))


class WebhookEndpoint(models.Model):
    """One URL to which the events of a partner are delivered, in order for each basket. See Note [Lanes].

    Every event up to `position` was delivered, was skipped, or belongs to a blocked basket.
    """

    class State(models.TextChoices):
        """Whether events are delivered."""

        ACTIVE = "active", _("active")
        PAUSED = "paused", _("paused")
        DEAD = "dead", _("given up: it failed for too long")
        DELETED = "deleted", _("deleted")

    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="webhooks")
    public_id = models.UUIDField(db_default=RandomUUID(), unique=True, editable=False, help_text="Names the webhook to its partner.")
    url = models.CharField(max_length=2000)
    label = models.CharField(max_length=100, blank=True)
    secret = models.BinaryField(editable=False, help_text="Encrypted; shown once, when it is made.")
    previous_secret = models.BinaryField(null=True, editable=False, help_text="Encrypted; they sign beside the new one after a rotation.")
    previous_secret_until = models.DateTimeField(null=True, help_text="The end of the overlap after a rotation.")
    strict = models.BooleanField(default=False, help_text="One event at a time, in the order of the feed; a failed event stops all others.")
    kinds = models.JSONField(default=list, help_text="Which kinds of events; none named: all.")
    state = models.CharField(max_length=10, choices=State, default=State.ACTIVE)
    position = models.BigIntegerField(default=0)
    failures = models.PositiveIntegerField(
        verbose_name=_("failures"), default=0, help_text="Tries that failed since the last one that did not."
    )
    failing_since = models.DateTimeField(verbose_name=_("failing since"), null=True)
    next_try_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=200, blank=True, help_text="How the last try failed.")
    delivered_at = models.DateTimeField(null=True, help_text="The last delivery.")
    test_requested_at = models.DateTimeField(null=True, help_text="Set until a deliverer has taken the request for a test message.")
    created_at = models.DateTimeField(verbose_name=_("created at"), db_default=Now(), editable=False)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        verbose_name = _("webhook endpoint")
        verbose_name_plural = _("webhook endpoints")
        permissions = [
            ("repair_pause", gettext_noop("Can pause a webhook")),
            ("repair_resume", gettext_noop("Can resume a webhook")),
            ("repair_replay", gettext_noop("Can have events delivered again")),
            ("repair_skip_event", gettext_noop("Can skip an event that a webhook refuses")),
            ("repair_send_test", gettext_noop("Can send a test event to a webhook")),
        ]
        indexes = [
            models.Index(fields=["failing_since"], name="webhooks_failing", condition=Q(failing_since__isnull=False, state="active")),
        ]
        constraints = [
            models.CheckConstraint(name="webhook_state_is_known", condition=Q(state__in=["active", "paused", "dead", "deleted"])),
            models.CheckConstraint(name="webhook_position_is_not_negative", condition=Q(position__gte=0)),
            models.CheckConstraint(
                name="webhook_fails_since_its_first_failure",
                condition=Q(failures=0, failing_since__isnull=True) | Q(failures__gt=0, failing_since__isnull=False),
            ),
            models.CheckConstraint(
                name="webhook_previous_secret_has_an_end",
                condition=Q(previous_secret__isnull=True, previous_secret_until__isnull=True)
                | Q(previous_secret__isnull=False, previous_secret_until__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"webhook {self.pk} ({self.state})"

    @property
    def is_failing(self) -> bool:
        """Whether it is active and its last attempt failed. At a webhook that is not strict, a refused event does not count."""
        return self.state == self.State.ACTIVE and self.failing_since is not None

    @property
    def is_resumable(self) -> bool:
        """Whether delivery has stopped: paused, given up, or waiting for the next try after a failure."""
        return self.state != self.State.ACTIVE or self.next_try_at is not None


class WebhookDeliverer(models.Model):
    """A running process that delivers, known by its heartbeat. Once `alive_until` has passed, others take over its lanes."""

    id = models.UUIDField(primary_key=True, editable=False)
    alive_until = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"deliverer {self.pk}"


class WebhookLane(models.Model):
    """The part of an endpoint's events that one deliverer sends in order: those of every n-th basket. See Note [Lanes].

    Every event of the lane up to `position` was delivered, was skipped, or belongs to a blocked basket.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="lanes", db_index=False)
    number = models.PositiveSmallIntegerField()
    position = models.BigIntegerField()
    deliverer = models.ForeignKey(WebhookDeliverer, null=True, on_delete=models.PROTECT, related_name="lanes")

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="one_lane_per_endpoint_and_number", fields=["endpoint", "number"]),
            models.CheckConstraint(name="webhook_lane_position_is_not_negative", condition=Q(position__gte=0)),
        ]

    def __str__(self) -> str:
        return f"lane {self.number} of webhook {self.endpoint_id}"


class WebhookBlockedBasketQuerySet(LockableQuerySet["WebhookBlockedBasket"]):
    """The blocked baskets of webhooks. Their rows can be locked."""


class WebhookBlockedBasket(models.Model):
    """A basket whose event the receiver refused. Its later events wait for that one; those of other baskets do not.

    :param position: the first event of the basket that was neither delivered nor skipped.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, on_delete=models.PROTECT, related_name="blocked_baskets", db_index=False)
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="webhook_blocks")
    position = models.BigIntegerField()
    failures = models.PositiveIntegerField(help_text="Tries of this event that failed.")
    failing_since = models.DateTimeField(null=True)
    next_try_at = models.DateTimeField()
    problem = models.CharField(max_length=200, blank=True, help_text="How the last try failed.")

    objects = WebhookBlockedBasketQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="one_block_per_endpoint_and_basket", fields=["endpoint", "basket"]),
            models.CheckConstraint(
                name="blocked_basket_fails_since_its_first_failure",
                condition=Q(failures=0, failing_since__isnull=True) | Q(failures__gt=0, failing_since__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"blocked at {self.position} (#{self.pk})"


class WebhookChange(models.Model):
    """One change of an endpoint by staff or the service, with its reason. Never edited."""

    class Kind(models.TextChoices):
        """What was done."""

        CREATED = "created", _("created")
        PAUSED = "paused", _("paused")
        RESUMED = "resumed", _("resumed")
        REPLAYED = "replayed", _("set back, to deliver again")
        GIVEN_UP = "given_up", _("given up")
        SKIPPED = "skipped", _("skipped an event")
        CHANGED = "changed", _("changed")
        ROTATED = "rotated", _("new secret")
        DELETED = "deleted", _("deleted")

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
                condition=Q(
                    kind__in=["created", "paused", "resumed", "replayed", "given_up", "skipped", "changed", "rotated", "deleted"],
                ),
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
