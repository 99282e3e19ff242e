"""The product catalog that all partners share. Stock is in `stock`."""

from collections.abc import Iterable
from datetime import timedelta

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, Greatest, Now
from django.utils.translation import gettext_lazy as _

from baskets.models.stock import StockReservation
from baskets.models.words import having_words, words_of

# Note [Product ids]
# The characters that a product id must not contain, in a notation that PostgreSQL, Python and ECMAScript share. Ids that
# look the same must be the same, and an id must fit into a path and into one line of a file or a log. So an id contains no
# control character, no line or paragraph separator, no slash and no invisible character: Unicode's default-ignorable ones
# (zero width, joiners, fillers, direction marks, soft hyphen, byte order mark, variation selectors), annotation marks and
# the Braille blank. It neither begins nor ends with a blank. See ADR 34.
NOT_IN_PRODUCT_ID = (
    r"\u0001-\u001f/\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
# The same outside the basic plane: shorthand and musical controls, tags and further variation selectors. ECMAScript has
# another notation for these.
NOT_IN_PRODUCT_ID_BEYOND = r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
BLANK = r" \u00a0\u1680\u2000-\u200a\u202f\u205f\u3000"


def product_id_pattern(*excluded: str) -> str:
    """Build the regular expression of a product id without these characters and without a blank at either end.

    :param excluded: contents of a character class, such as `NOT_IN_PRODUCT_ID`.
    """
    inside = "".join(excluded)
    return f"^[^{inside}{BLANK}]([^{inside}]*[^{inside}{BLANK}])?$"


PRODUCT_ID_PATTERN = product_id_pattern(NOT_IN_PRODUCT_ID, NOT_IN_PRODUCT_ID_BEYOND)
# Ids that begin with this belong to the sandbox. No shop can import one.
SANDBOX_PREFIX = "sandbox-"


def is_sandbox_product(product_id: str) -> bool:
    """Return whether a product belongs to the sandbox, by its id alone.

    >>> is_sandbox_product("sandbox-plenty"), is_sandbox_product("demo-mug")
    (True, False)
    """
    return product_id.startswith(SANDBOX_PREFIX)


PRODUCT_WORDS = words_of("name", "brand", "variant", "product_id")


class ProductQuerySet(models.QuerySet["Product"]):
    """Named queries for products."""

    def with_words(self, text: str) -> "ProductQuerySet":
        """Products of which name, brand, variant or id together have every word of a text, or a word that begins like it.

        Accents and case do not count. A text without a word matches no product.
        """
        return having_words(self, PRODUCT_WORDS, text)

    def offered(self, product_ids: Iterable[str]) -> "ProductQuerySet":
        """Find the listed products among these, annotated with `obtainable`: see `with_obtainable`."""
        return self.filter(product_id__in=list(product_ids), listed=True).with_obtainable()

    def with_obtainable(self) -> "ProductQuerySet":
        """Annotate `obtainable`: the pieces that a start or a late order can reserve now; None for unlimited products.

        Pieces of lapsed holds count before a sweep has released them, minus the shortfall that they must cover, because a
        start reclaims them. So a late sweep hides no stock.
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
        return self.annotate(obtainable=models.Case(models.When(stock__limited=True, then=obtainable), default=None))

    def with_sold(self, *, within: timedelta) -> "ProductQuerySet":
        """Annotate `sold`: the pieces of limited products that were sold within this time before now."""
        sold = (
            StockReservation.objects.filter(product_id=OuterRef("pk"), status=StockReservation.Status.SOLD, ended_at__gt=Now() - within)
            .order_by()
            .values("product_id")
            .annotate(pieces_of_product=Sum("pieces"))
            .values("pieces_of_product")
        )
        return self.annotate(sold=Coalesce(Subquery(sold), 0))


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
    listed = models.BooleanField(
        verbose_name=_("listed"), default=True, help_text="An unlisted product cannot be added, and no start buys it."
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = ProductQuerySet.as_manager()

    class Meta:
        verbose_name = _("product")
        verbose_name_plural = _("products")
        indexes = [GinIndex(PRODUCT_WORDS, name="products_by_word")]
        constraints = [
            models.CheckConstraint(name="product_id_is_not_empty", condition=~Q(product_id="")),
            models.CheckConstraint(name="listed_product_id_is_valid", condition=Q(listed=False) | Q(product_id__regex=PRODUCT_ID_PATTERN)),
            models.CheckConstraint(name="price_is_not_negative", condition=Q(price__isnull=True) | Q(price__gte=0)),
            models.CheckConstraint(name="price_has_a_currency", condition=Q(price__isnull=True) | Q(currency__regex=r"^[A-Z]{3}$")),
        ]

    def __str__(self) -> str:
        return self.product_id
