"""Responses stored by Idempotency-Key, so that a repeated call gets the same response and has no second effect."""

from django.db import models


class IdempotencyRecord(models.Model):
    """One stored response. It commits together with the effect of the call.

    `basket_id` is the computed primary key of a basket that may not exist yet, so it is not a foreign key. `status` and
    `body` are null only inside the transaction that claims the key.
    """

    basket_id = models.UUIDField()
    key = models.CharField(max_length=255, db_collation="C")
    fingerprint = models.BinaryField(max_length=32, help_text="Digest of method, path, options and body.")
    status = models.PositiveSmallIntegerField(null=True)
    body = models.TextField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["created_at"], name="idempotency_records_by_age")]
        constraints = [
            models.UniqueConstraint(name="one_record_per_basket_and_idempotency_key", fields=["basket_id", "key"]),
        ]

    def __str__(self) -> str:
        return f"answer {self.status} (#{self.pk})"
