"""Responses stored by Idempotency-Key, so that a repeated call gets the same response and has no second effect."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class IdempotencyRecord(models.Model):
    """One stored response. It commits together with the effect of the call.

    `basket_id` is the computed primary key of a basket that may not exist yet, so it is not a foreign key. `status` and
    `body` are null only inside the transaction that claims the key.
    """

    basket_id = models.UUIDField()
    key = models.CharField(max_length=255, db_collation="C")
    fingerprint = models.BinaryField(max_length=32, help_text="Digest of method, path, options and body.")
    status = models.PositiveSmallIntegerField(verbose_name=_("status"), null=True)
    body = models.TextField(verbose_name=_("body"), null=True)
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = _("idempotency record")
        verbose_name_plural = _("idempotency records")
        indexes = [models.Index(fields=["created_at"], name="idempotency_records_by_age")]
        constraints = [
            models.UniqueConstraint(name="one_record_per_basket_and_idempotency_key", fields=["basket_id", "key"]),
        ]

    def __str__(self) -> str:
        return f"answer {self.status} (#{self.pk})"
