"""The catalogue that all partners share. Stock is beside it, in `stock`."""

from collections.abc import Iterable

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Greatest, Now

from baskets.models.stock import StockReservation


class ProductQuerySet(models.QuerySet["Product"]):
    """Named questions about products."""

    def offered(self, product_ids: Iterable[str]) -> "ProductQuerySet":
        """Find the listed products among these, with `obtainable`: the pieces that can be had now, None where unlimited.

        Pieces of lapsed holds count although no sweep has released them yet, less what shortfall will eat of them: a
        start reclaims them, so a sweep that is late or dead hides no stock.
        """
        lapsed = (
            StockReservation.objects.held()
            .filter(product_id=OuterRef("pk"), expires_at__lte=Now())
            .order_by()
            .values("product_id")
            .annotate(pieces_of_product=Sum("pieces"))
            .values("pieces_of_product")
        )
        obtainable = Greatest(F("stock__available") + Coalesce(Subquery(lapsed), 0) - F("stock__shortfall"), 0)
        return self.filter(product_id__in=list(product_ids), listed=True).annotate(
            obtainable=models.Case(models.When(stock__limited=True, then=obtainable), default=None)
        )


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

    objects = ProductQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(name="product_id_is_not_empty", condition=~Q(product_id="")),
            models.CheckConstraint(name="price_is_not_negative", condition=Q(price__isnull=True) | Q(price__gte=0)),
            models.CheckConstraint(name="price_has_a_currency", condition=Q(price__isnull=True) | Q(currency__regex=r"^[A-Z]{3}$")),
        ]

    def __str__(self) -> str:
        return self.product_id
