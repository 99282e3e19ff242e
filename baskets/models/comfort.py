"""What makes a user's next checkout comfortable, kept with their consent and encrypted."""

from django.db import models
from django.db.models import F, Q


class Comfort(models.Model):
    """A user's stored customer id and payment token. A row is there only while the user consents.

    It belongs to the user and not to what is in the basket at the moment, so `basket_id` is the computed key of a basket
    that need not exist. The two values are encrypted by `baskets.encryption`.
    """

    basket_id = models.UUIDField(primary_key=True, editable=False)
    customer_id = models.BinaryField(null=True)
    payment_token = models.BinaryField(null=True)
    consented_at = models.DateTimeField()
    changed_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "comfort"
        constraints = [
            models.CheckConstraint(name="comfort_changed_after_the_consent", condition=Q(changed_at__gte=F("consented_at"))),
        ]

    def __str__(self) -> str:
        return f"comfort of {self.basket_id}"
