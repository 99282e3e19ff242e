"""Transfers of a basket to another device, by a single-use token that expires after a minute."""

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


class Transfer(models.Model):
    """One transfer token, stored as a digest. The device that redeems the token gets access to the same basket."""

    digest = models.BinaryField(max_length=32, unique=True, editable=False)
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="transfers")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    redeemed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("transfer")
        verbose_name_plural = _("transfers")
        constraints = [
            models.CheckConstraint(name="transfer_expires_after_its_creation", condition=Q(expires_at__gt=F("created_at"))),
            models.CheckConstraint(
                name="transfer_redeemed_in_its_time",
                condition=Q(redeemed_at__isnull=True) | Q(redeemed_at__gte=F("created_at"), redeemed_at__lt=F("expires_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"transfer of {self.basket_id} at {self.created_at}"
