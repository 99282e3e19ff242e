"""The timeline: one event for each change of a basket, written in the same transaction. Never edited.

Note [Keys without a check]
The foreign keys of the hot path are not checked by the database: each check is one more statement for each row, and a lock of the row
that it finds. What holds them:
- Everything of a basket is written under its lock, in the transaction that inserts, updates or locks the row that it refers to. Only a
  purge and a move to another cell delete such rows: under the same lock, with all that refers to them.
- A session and a place in the feed have the partner of their basket, and the key from a basket to its partner is checked.
- A place in the feed is given to an event by the statement that reads it. No event without a place is deleted.
- Nothing deletes or renames a product: a trigger refuses it. What writes an item has read the product, or another item of it.
`check_baskets` proves it for all rows. Source: ADR 55 and 71.
"""

from django.db import models
from django.db.models import Case, OuterRef, Q, Subquery, Value, When
from django.utils.translation import gettext_lazy as _

from baskets.db.constraints import RowCheck
from baskets.models.partners import ApiKey

# What a note of staff is called among the repairs. Its reason is its text.
NOTE = "note"


class EventQuerySet(models.QuerySet["Event"]):
    """Named queries for events."""

    def with_keys(self) -> "EventQuerySet":
        """Annotate primary key and kind of the API key that is the author, as `key_pk` and `key_kind`; None for other authors."""
        key = ApiKey.objects.filter(prefix=OuterRef("actor"))
        of_key = {f"key_{name}": Case(When(actor_kind="key", then=Subquery(key.values(name)))) for name in ("pk", "kind")}
        return self.annotate(**of_key)

    def assignments(self) -> "EventQuerySet":
        """Events that assign the attention flags of a session or unassign them, the latest first."""
        return self.filter(kind=Event.Kind.REPAIRED, data__repair__in=["take", "hand_back"]).order_by("-number")

    def notes(self) -> "EventQuerySet":
        """Notes of staff, the latest first."""
        return self.filter(kind=Event.Kind.REPAIRED, data__repair=NOTE).order_by("-number")

    def assignee(self, *, session: str = "session_id") -> "EventQuerySet":
        """Select the assignee of the attention flags of the outer row's session, for a subquery.

        :param session: the field of the outer query that holds the session's primary key.
        :returns: one row with the name of a member of staff, empty if unassigned; no row if never assigned.
        """
        events = self.assignments().filter(basket_id=OuterRef("basket_id"), session_id=OuterRef(session))
        assignee = Case(When(data__repair="take", then="actor"), default=Value(""))
        return events.annotate(assignee=assignee).values("assignee")[:1]  # type: ignore[return-value]  # A subquery needs no model.


class Event(models.Model):
    """One line of a basket's timeline: what happened, who did it, and the tracking data that the app sent."""

    class Kind(models.TextChoices):
        """What happened."""

        GUEST_CREATED = "guest_created", _("basket of a guest created")
        ITEM_PLACED = "item_placed", _("item placed, changed or moved")
        ITEM_REMOVED = "item_removed", _("item removed")
        CHECKOUT_STARTED = "checkout_started", _("checkout started")
        CHECKOUT_ORDERED = "checkout_ordered", _("ordered")
        CHECKOUT_ABORTED = "checkout_aborted", _("checkout aborted")
        CHECKOUT_EXPIRED = "checkout_expired", _("checkout expired")
        CHECKOUT_ORDERED_LATE = "checkout_ordered_late", _("ordered late")
        CHECKOUT_REVERSED = "checkout_reversed", _("order reversed")
        ATTENTION_NEEDED = "attention_needed", _("an order was refused that may have been paid")
        ATTENTION_SETTLED = "attention_settled", _("flags resolved")
        BASKET_DELETED = "basket_deleted", _("basket deleted")
        BASKET_EXPIRED = "basket_expired", _("basket expired")
        TRANSFER_OFFERED = "transfer_offered", _("offered to another device")
        TRANSFER_REDEEMED = "transfer_redeemed", _("taken over by another device")
        DEVICE_REVOKED = "device_revoked", _("token of a device revoked")
        REPAIRED = "repaired", _("repaired")

    # Two keys without a check: see Note [Keys without a check].
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="timeline", db_index=False, db_constraint=False)
    number = models.BigIntegerField(verbose_name=_("number"), help_text="Counts the events of this basket, from 1, without gaps.")
    revision = models.BigIntegerField(help_text="The basket's revision after the event.")
    kind = models.CharField(max_length=30, choices=Kind)
    session = models.ForeignKey(
        "CheckoutSession", null=True, on_delete=models.PROTECT, related_name="timeline", db_index=False, db_constraint=False
    )
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=10, help_text="key, staff or system")
    actor = models.CharField(max_length=200, help_text="Key prefix, staff name or command, as it was called then.")
    request_id = models.CharField(verbose_name=_("request id"), max_length=200, blank=True)
    tracking = models.JSONField(verbose_name=_("tracking"), default=dict)
    data = models.JSONField(verbose_name=_("data"), default=dict)

    objects = EventQuerySet.as_manager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes = [
            # For an erasure, which searches the reasons of all repairs.
            models.Index(fields=["id"], name="events_of_repairs", condition=Q(kind="repaired")),
        ]
        constraints = [
            models.UniqueConstraint(name="one_event_per_basket_and_number", fields=["basket", "number"]),
            RowCheck(name="event_number_counts_from_one", condition=Q(number__gte=1)),
            RowCheck(name="actor_kind_is_known", condition=Q(actor_kind__in=["key", "staff", "system"])),
        ]

    def __str__(self) -> str:
        return f"{self.kind} #{self.number} (#{self.pk})"
