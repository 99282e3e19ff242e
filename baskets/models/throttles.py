"""Counters of the rate limits. Nothing else depends on them."""

from django.db import models


class Throttle(models.Model):
    """The count of one subject in its current window.

    The table is UNLOGGED: counting writes no write-ahead log, and a crash of the database empties the table. It contains
    neither history nor names: a subject is the prefix of a key, or one of a fixed number of buckets.
    """

    subject = models.CharField(max_length=64, primary_key=True, db_collation="C")
    count = models.PositiveIntegerField()
    ends_at = models.DateTimeField(help_text="The end of the window; from then on the row counts anew.")

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["ends_at"], name="throttles_by_end")]

    def __str__(self) -> str:
        return f"{self.subject}: {self.count}"
