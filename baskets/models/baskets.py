"""Baskets and the items of their cart and saved lists. The checkout list is in `checkouts`."""

import functools
import uuid

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower, Now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.db.constraints import RowCheck
from baskets.models.checkouts import CheckoutSession
from baskets.models.locking import LockableQuerySet

NAMESPACE = uuid.UUID("6f0c7e52-52a7-5d0b-9d3e-0b5a3a1f8c41")


@functools.lru_cache(maxsize=4096)  # The calls of one user come close together.
def basket_key(*, partner_id: int, user_id: str) -> uuid.UUID:
    """Compute the primary key of a user's basket, so that the basket is found, locked and sharded without a look-up."""
    return uuid.uuid5(NAMESPACE, f"{partner_id}:{user_id}")


def _in_checkout() -> models.Exists:
    """Build the condition that the basket of the outer query has an active session."""
    return models.Exists(CheckoutSession.objects.active().filter(basket_id=models.OuterRef("pk")))


class BasketQuerySet(LockableQuerySet["Basket"]):
    """Named queries for baskets. The lock of a basket is the mutex of its items, sessions and reservations."""

    def open(self) -> "BasketQuerySet":
        """Baskets that their users see: not closed, and either before `expires_at` or in checkout."""
        return self.filter(Q(expires_at__gt=Now()) | _in_checkout(), hidden_at__isnull=True)


class Basket(models.Model):
    """Everything stored for one user of one partner.

    `revision` counts the changes of its lists, `events` the lines of its timeline including purged ones. A deleted or expired
    basket is closed: empty, with `hidden_at` set. Its row stays, because orders and the timeline reference it; the next addition
    opens it again.
    """

    id = models.UUIDField(primary_key=True, editable=False)
    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="baskets", db_index=False)
    user_id = models.CharField(max_length=255, db_collation="C")
    guest = models.BooleanField(default=False, help_text="Expires 30 days after its creation and does not slide.")
    revision = models.BigIntegerField(default=0)
    events = models.BigIntegerField(default=0)
    events_purged = models.BigIntegerField(default=0, db_default=0, help_text="So many of the first are not kept any more.")
    created_at = models.DateTimeField()
    last_changed_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    hidden_at = models.DateTimeField(null=True, help_text="When it was deleted or expired.")

    objects = BasketQuerySet.as_manager()

    class Meta:
        verbose_name = _("basket")
        verbose_name_plural = _("baskets")
        permissions = [
            ("repair_change_item", gettext_noop("Can change, move or remove an item of a basket")),
            ("repair_add_item", gettext_noop("Can add an item to a cart")),
            ("repair_restore", gettext_noop("Can restore a deleted or expired basket")),
            ("repair_extend", gettext_noop("Can make a basket last longer")),
            ("repair_end", gettext_noop("Can end a basket")),
            ("repair_note", gettext_noop("Can add a note to a basket")),
            ("repair_erase", gettext_noop("Can erase what is stored of a user")),
            ("privacy_export", gettext_noop("Can export what is stored of a user")),
        ]
        indexes = [
            models.Index(fields=["expires_at", "id"], name="shown_baskets_by_expiry_and_id", condition=Q(hidden_at__isnull=True)),
            models.Index(fields=["partner", "last_changed_at"], name="shown_baskets_by_change", condition=Q(hidden_at__isnull=True)),
            # For staff who search an e-mail address in another case. Ids without a capital letter are not in it.
            models.Index(Lower("user_id"), name="baskets_by_folded_user", condition=~Q(user_id=Lower("user_id"))),
        ]
        constraints = [
            models.UniqueConstraint(name="one_basket_per_partner_and_user", fields=["partner", "user_id"]),
            RowCheck(name="user_id_is_not_empty", condition=~Q(user_id="")),
            RowCheck(name="revision_is_not_negative", condition=Q(revision__gte=0, events__gte=0)),
            RowCheck(name="purged_events_are_counted", condition=Q(events_purged__gte=0, events_purged__lte=F("events"))),
            RowCheck(name="basket_expires_after_its_creation", condition=Q(expires_at__gt=F("created_at"))),
            RowCheck(name="basket_changed_after_its_creation", condition=Q(last_changed_at__gte=F("created_at"))),
        ]

    def __str__(self) -> str:
        return f"basket of {self.user_id!r} ({self.pk})"


class BasketItem(models.Model):
    """One product in the cart or the saved list of a basket, with its count.

    A product is in at most one of the two lists, so the unique constraint covers basket and product without the list.
    `position` orders a list; a checkout copies it and restores it.
    """

    class List(models.TextChoices):
        """Which list the item is in. The third list, checkout, is the items of the active session."""

        CART = "cart", _("cart")
        SAVED = "saved", _("saved")

    # Two keys without a check: see Note [Keys without a check] in `models.events`.
    basket = models.ForeignKey(Basket, on_delete=models.PROTECT, related_name="items", db_index=False, db_constraint=False)
    product = models.ForeignKey("Product", on_delete=models.PROTECT, related_name="basket_items", db_index=False, db_constraint=False)
    list = models.CharField(verbose_name=_("list"), max_length=5, choices=List)
    count = models.BigIntegerField(verbose_name=_("count"))
    position = models.BigIntegerField(verbose_name=_("position"))

    class Meta:
        verbose_name = _("basket item")
        verbose_name_plural = _("basket items")
        indexes = [models.Index(fields=["product"], name="items_of_product")]
        constraints = [
            models.UniqueConstraint(name="one_item_per_basket_and_product", fields=["basket", "product"]),
            RowCheck(name="item_list_is_known", condition=Q(list__in=["cart", "saved"])),
            RowCheck(name="item_count_is_positive", condition=Q(count__gt=0)),
        ]

    def __str__(self) -> str:
        return f"{self.count} of {self.product_id} in {self.list} (#{self.pk})"
