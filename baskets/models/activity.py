"""Counts of what happened, by minute and by hour: for the first page of the admin, which must be cheap however many baskets there are.

`domain.events.activity` derives them from the feed, except `RefusalActivity`: no event records a refused call, so
`domain.events.refused_calls` counts those where they are answered.
"""

from django.db import models
from django.db.models import F, Q


class Span(models.IntegerChoices):
    """The length of a span, in seconds. Every event is counted in both."""

    MINUTE = 60, "minute"
    HOUR = 3600, "hour"


class ActivityState(models.Model):
    """One row: the last position of the feed that is counted, and when a sweep last ended."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    position = models.BigIntegerField(default=0, help_text="Events up to this position of the feed are counted.")
    active = models.BigIntegerField(default=0, help_text="Checkouts that were active after those events, test checkouts left out.")
    swept_at = models.DateTimeField(null=True, help_text="When a sweep last ended after all that was due.")

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(name="one_state_of_the_counts", condition=Q(id=1)),
            models.CheckConstraint(name="counted_position_is_not_negative", condition=Q(position__gte=0)),
        ]

    def __str__(self) -> str:
        return f"counted to position {self.position}"


class PartnerActivity(models.Model):
    """What happened to the checkouts of one partner within one span. Test checkouts are left out."""

    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="activity", db_index=False)
    seconds = models.PositiveSmallIntegerField(choices=Span)
    starts_at = models.DateTimeField(help_text="The start of the span.")
    started = models.BigIntegerField(help_text="Checkouts that started.")
    ordered = models.BigIntegerField(help_text="Checkouts that were ordered, late orders included.")
    late = models.BigIntegerField(help_text="Those of them that were late orders.")
    aborted = models.BigIntegerField(help_text="Checkouts that were aborted.")
    expired = models.BigIntegerField(help_text="Checkouts that expired.")
    flagged = models.BigIntegerField(help_text="Reports of an order that were refused, and flagged for staff.")
    pieces = models.BigIntegerField(help_text="Pieces in the orders.")

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="one_count_per_span_and_partner", fields=["seconds", "starts_at", "partner"]),
            models.CheckConstraint(name="partner_activity_span_is_known", condition=Q(seconds__in=Span.values)),
            models.CheckConstraint(name="late_orders_are_orders", condition=Q(late__gte=0, late__lte=F("ordered"))),
        ]

    def __str__(self) -> str:
        return f"partner {self.partner_id}, {self.seconds} s from {self.starts_at}"


class ProductActivity(models.Model):
    """How often one product was ordered within one span. Test checkouts are left out."""

    product = models.ForeignKey("Product", on_delete=models.PROTECT, related_name="activity", db_index=False)
    seconds = models.PositiveSmallIntegerField(choices=Span)
    starts_at = models.DateTimeField(help_text="The start of the span.")
    orders = models.BigIntegerField()
    pieces = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="one_count_per_span_and_product", fields=["seconds", "starts_at", "product"]),
            models.CheckConstraint(name="product_activity_span_is_known", condition=Q(seconds__in=Span.values)),
            models.CheckConstraint(name="product_activity_counts_something", condition=Q(orders__gte=1, pieces__gte=F("orders"))),
        ]

    def __str__(self) -> str:
        return f"{self.product_id}, {self.seconds} s from {self.starts_at}"


class RefusalActivity(models.Model):
    """How many calls were refused for one reason within one span."""

    reason = models.CharField(max_length=64, help_text="The reason of the response, such as `out_of_stock`.")
    seconds = models.PositiveSmallIntegerField(choices=Span)
    starts_at = models.DateTimeField(help_text="The start of the span.")
    calls = models.BigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(name="one_count_per_span_and_reason", fields=["seconds", "starts_at", "reason"]),
            models.CheckConstraint(name="refusal_activity_span_is_known", condition=Q(seconds__in=Span.values)),
            models.CheckConstraint(name="refusal_activity_counts_something", condition=Q(calls__gte=1)),
        ]

    def __str__(self) -> str:
        return f"{self.reason}, {self.seconds} s from {self.starts_at}"
