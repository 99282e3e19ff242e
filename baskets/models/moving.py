"""Baskets on their way to another cell."""

from django.db import models
from django.db.models.functions import Now

from baskets.models.locking import LockableQuerySet


class MovingBatchQuerySet(LockableQuerySet["MovingBatch"]):
    """Queries for batches."""


class MovingBatch(models.Model):
    """Baskets that move to another cell. See Note [A basket is in one cell] in `domain.cells.slot_moves`.

    In the cell that they leave it has them, as text, until they have arrived. In the other it says that they have.
    """

    id = models.UUIDField(primary_key=True)
    cell = models.PositiveSmallIntegerField(help_text="The other cell.")
    baskets = models.TextField(blank=True, help_text="As JSON, with everything that belongs to them; empty where they have arrived.")
    created_at = models.DateTimeField(db_default=Now())

    objects = MovingBatchQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{'for' if self.baskets else 'from'} cell {self.cell}: {self.id}"
