"""Data that shortens a user's next checkout, stored encrypted and only with consent."""

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _


class Comfort(models.Model):
    """A user's customer id and payment token. The row exists only while the user consents.

    `basket_id` is the computed key of a basket that need not exist, because the row belongs to the user and not to the
    content of the basket. Both values are encrypted by `baskets.encryption`.
    """

    basket_id = models.UUIDField(verbose_name=_("basket id"), primary_key=True, editable=False)
    customer_id = models.BinaryField(null=True)
    payment_token = models.BinaryField(null=True)
    consented_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name = _("comfort")
        verbose_name_plural = _("comfort")
        constraints = [
            models.CheckConstraint(name="comfort_changed_after_the_consent", condition=Q(changed_at__gte=F("consented_at"))),
        ]

    def __str__(self) -> str:
        return f"comfort of {self.basket_id}"
