"""Answers remembered for an Idempotency-Key, so that a repeated call is answered and not done again."""

from django.db import models


class IdempotencyRecord(models.Model):
    """One remembered answer. It commits together with the effect it stands for.

    The key belongs to a basket, and the basket may not exist yet: `basket_id` is its computed primary key, without a
    foreign key behind it. `status` and `body` are empty only inside the transaction that will fill them.
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
