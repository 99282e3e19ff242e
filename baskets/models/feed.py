"""The order of the event feed: the position of each event, and the state of the assignment of positions."""

from django.db import models
from django.db.models import F, Q


class FeedPosition(models.Model):
    """The position of one event in the feed, assigned after the event was committed. Never changed.

    Positions count from 1 over all partners, without gaps until a purge. `partner` and `kind` repeat those of the event, so
    that a page of the feed costs the same at any position.
    """

    position = models.BigIntegerField(primary_key=True)
    # Two keys without a check: see Note [Keys without a check] in `models.events`.
    event = models.OneToOneField("Event", on_delete=models.PROTECT, related_name="place", db_constraint=False)
    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="feed", db_index=False, db_constraint=False)
    kind = models.CharField(max_length=30)
    public_id = models.UUIDField(null=True, help_text="Names the event to its partner. Empty: its primary key does, as it always did.")

    class Meta:
        default_permissions = ()
        indexes = [
            models.Index(fields=["partner", "position"], name="feed_of_partner"),
            models.Index(fields=["partner", "kind", "position"], name="feed_of_partner_by_kind"),
        ]
        constraints = [models.CheckConstraint(name="position_counts_from_one", condition=Q(position__gte=1))]

    def __str__(self) -> str:
        return f"#{self.position}: event {self.event_id}"


class FeedGap(models.Model):
    """A position without an event, because its basket moved to another cell. A purge of the positions around it removes it."""

    position = models.BigIntegerField(primary_key=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"gap at #{self.position}"


class FeedState(models.Model):
    """The state of the assignment of positions, in one row. See Note [Positions after the commit]."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    position = models.BigIntegerField(default=0, help_text="The last position given.")
    settled_id = models.BigIntegerField(default=0, help_text="No event up to this id will be committed any more.")
    seen_id = models.BigIntegerField(default=0, help_text="Every event up to this id that was visible has its position.")
    horizon = models.BigIntegerField(null=True, help_text="Transactions before this one may still commit an event up to it.")
    purged_position = models.BigIntegerField(default=0, help_text="Up to this position, events may have been purged.")

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(name="one_state_of_the_feed", condition=Q(id=1)),
            models.CheckConstraint(
                name="feed_state_in_order",
                condition=Q(settled_id__gte=0, seen_id__gte=F("settled_id"), purged_position__gte=0, position__gte=F("purged_position")),
            ),
        ]

    def __str__(self) -> str:
        return f"at position {self.position}"
