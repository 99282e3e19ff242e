"""The catalogue that all partners share. Stock is beside it, in `stock`."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now


class Product(models.Model):
    """One product or variant. Its primary key is the `productId` of the API.

    A product with a history is unlisted, never deleted: every reference to it protects it.
    """

    product_id = models.CharField(max_length=255, primary_key=True, db_collation="C")
    name = models.CharField(max_length=500)
    brand = models.CharField(max_length=255, blank=True)
    variant = models.CharField(max_length=255, blank=True)
    main_product_id = models.CharField(max_length=255, blank=True, db_collation="C")
    price = models.BigIntegerField(null=True, blank=True, help_text="Minor units of the currency; empty: not kept.")
    currency = models.CharField(max_length=3, blank=True, help_text="ISO 4217.")
    listed = models.BooleanField(default=True, help_text="An unlisted product cannot be added, and no start buys it.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(name="product_id_is_not_empty", condition=~Q(product_id="")),
            models.CheckConstraint(name="price_is_not_negative", condition=Q(price__isnull=True) | Q(price__gte=0)),
            models.CheckConstraint(
                name="price_has_a_currency", condition=Q(price__isnull=True) | Q(currency__regex=r"^[A-Z]{3}$")
            ),
        ]

    def __str__(self) -> str:
        return self.product_id
