"""Checkout sessions, their items, and the attention flags for staff. The items of the active session are the checkout list."""

from django.db import models
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.functions import Now
from django.db.models.lookups import Exact, IsNull
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.db.constraints import RowCheck


class CheckoutSessionQuerySet(models.QuerySet["CheckoutSession"]):
    """Named queries for sessions."""

    def active(self) -> "CheckoutSessionQuerySet":
        """Sessions that have not ended, including lapsed ones."""
        return self.filter(status=CheckoutSession.Status.ACTIVE)

    def lapsed(self) -> "CheckoutSessionQuerySet":
        """Active sessions past the end of their hold by the database's clock, oldest first."""
        return self.active().filter(expires_at__lte=Now()).order_by("expires_at", "pk")

    def latest_ended_first(self) -> "CheckoutSessionQuerySet":
        """Ended sessions, the latest first."""
        return self.exclude(status=CheckoutSession.Status.ACTIVE).order_by("-ended_revision", "-finished_at", "-pk")

    def needing_attention(self) -> "CheckoutSessionQuerySet":
        """Sessions with an open attention flag."""
        return self.filter(Exists(Attention.objects.filter(session_id=OuterRef("pk"), settled_at__isnull=True)))


class CheckoutSession(models.Model):
    """One attempt to buy what was in the cart: ACTIVE, then ORDERED, ABORTED or EXPIRED.

    ABORTED and EXPIRED may still become ORDERED: a late order. An order that staff reversed stays ORDERED.
    `ended_revision` is the revision of the basket right after the session ended, so that a later call can detect changes of
    the basket since then. `partner` repeats the basket's partner, so that a list of a partner's sessions needs one index.
    """

    class Status(models.TextChoices):
        """The state of the session."""

        ACTIVE = "ACTIVE", _("active")
        ORDERED = "ORDERED", _("ordered")
        ABORTED = "ABORTED", _("aborted")
        EXPIRED = "EXPIRED", _("expired")

    # Two keys without a check: see Note [Keys without a check] in `models.events`.
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="sessions", db_constraint=False)
    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="sessions", db_index=False, db_constraint=False)
    order_no = models.CharField(max_length=32, unique=True, db_collation="C")
    status = models.CharField(max_length=10, choices=Status)
    test_mode = models.BooleanField(default=False, help_text="Holds and sells nothing.")
    late = models.BooleanField(default=False, help_text="Ordered after it had been aborted or had expired.")
    started_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="The end of the hold.")
    released_at = models.DateTimeField(verbose_name=_("released at"), null=True, help_text="When it was aborted or expired.")
    finished_at = models.DateTimeField(null=True, help_text="When it came to the status it has now.")
    reversed_at = models.DateTimeField(null=True, help_text="When staff reversed the order, once and for good.")
    ended_revision = models.BigIntegerField(null=True)
    language = models.CharField(verbose_name=_("language"), max_length=2, blank=True, help_text="ISO 639-1.")
    country = models.CharField(verbose_name=_("country"), max_length=2, blank=True, help_text="ISO 3166-1.")
    stripe_using_sdk = models.BooleanField(verbose_name=_("stripe using sdk"), default=False)
    currency = models.CharField(max_length=3, blank=True, help_text="ISO 4217.")
    full_price = models.BigIntegerField(null=True, help_text="Minor units, over the items that can be ordered.")
    # Prefixes instead of foreign keys: the hot path has only the prefix, and a key is never deleted.
    started_by_key = models.CharField(
        verbose_name=_("started by key"),
        max_length=16,
        blank=True,
        default="",
        db_default="",
        db_collation="C",
        help_text="The key that started it; empty: staff or a command.",
    )
    finished_by_key = models.CharField(
        verbose_name=_("finished by key"),
        max_length=16,
        blank=True,
        default="",
        db_default="",
        db_collation="C",
        help_text="The key that brought it to the status it has; empty: staff, a command, or none yet.",
    )
    full_tax = models.BigIntegerField(null=True, help_text="Minor units.")
    shipping_cost = models.BigIntegerField(null=True, help_text="Minor units.")

    objects = CheckoutSessionQuerySet.as_manager()

    class Meta:
        verbose_name = _("checkout session")
        verbose_name_plural = _("checkouts and orders")
        permissions = [
            ("repair_finish_as_ordered", gettext_noop("Can finish a checkout as ordered")),
            ("repair_abort", gettext_noop("Can abort a checkout")),
            ("repair_order_late", gettext_noop("Can order a checkout late")),
            ("repair_reverse_order", gettext_noop("Can reverse an order")),
            ("repair_hold_again", gettext_noop("Can hold again what had failed")),
            ("repair_extend_hold", gettext_noop("Can extend the hold of an active checkout")),
        ]
        indexes = [
            models.Index(fields=["expires_at", "id"], name="active_sessions_to_expire", condition=Q(status="ACTIVE")),
            # For the paginated lists of a partner's back end.
            models.Index(fields=["partner", "started_at", "id"], name="sessions_of_partner"),
            models.Index(fields=["partner", "finished_at"], name="ended_sessions_of_partner", condition=Q(finished_at__isnull=False)),
            # For the comparison of one key's latest checkouts with those of other keys.
            models.Index(fields=["started_by_key", "started_at"], name="sessions_by_key", condition=~Q(started_by_key="")),
            models.Index(
                fields=["finished_by_key", "id"],
                name="orders_by_key",
                condition=Q(status="ORDERED") & ~Q(finished_by_key=""),
            ),
        ]
        constraints = [
            models.UniqueConstraint(name="one_active_checkout_per_basket", fields=["basket"], condition=Q(status="ACTIVE")),
            RowCheck(
                name="session_finished_unless_active",
                condition=Q(
                    Exact(IsNull(F("finished_at"), True), Exact(F("status"), Value("ACTIVE"))),
                    Exact(IsNull(F("ended_revision"), True), IsNull(F("finished_at"), True)),
                ),
            ),
            # This constraint also limits `status` to the known states.
            RowCheck(
                name="session_released_if_aborted_expired_or_late",
                condition=Q(status="ORDERED") & Q(Exact(IsNull(F("released_at"), False), F("late")))
                | Q(status__in=["ACTIVE", "ABORTED", "EXPIRED"], late=False)
                & Q(Exact(IsNull(F("released_at"), True), IsNull(F("finished_at"), True))),
            ),
            RowCheck(name="hold_ends_after_the_start", condition=Q(expires_at__gt=F("started_at"))),
            RowCheck(name="active_session_has_no_finishing_key", condition=Q(finished_at__isnull=False) | Q(finished_by_key="")),
            # A CHECK accepts a comparison with NULL.
            RowCheck(name="session_finished_after_the_start", condition=Q(finished_at__gte=F("started_at"))),
            RowCheck(name="only_an_order_is_reversed", condition=Q(reversed_at__isnull=True) | Q(status="ORDERED")),
        ]

    def __str__(self) -> str:
        return f"{self.order_no} ({self.status})"


class CheckoutItem(models.Model):
    """One product being bought in a session. Kept until a purge: of an ORDERED session, it is a line of the order.

    `stocked` has the meaning of the API, in pieces. The whole `count`: held. Null: the product is unlimited, or the session
    is in test mode. Negative: the reservation failed, and that many pieces were missing; or staff released it, and
    `released_at` is set.
    """

    # Three keys without a check: see Note [Keys without a check] in `models.events`.
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="checkout_items", db_index=False, db_constraint=False)
    session = models.ForeignKey(CheckoutSession, on_delete=models.PROTECT, related_name="items", db_index=False, db_constraint=False)
    product = models.ForeignKey("Product", on_delete=models.PROTECT, related_name="checkout_items", db_index=False, db_constraint=False)
    count = models.BigIntegerField(verbose_name=_("count"))
    stocked = models.BigIntegerField(null=True)
    released_at = models.DateTimeField(null=True, help_text="When staff released its hold. Null: staff did not.")
    position = models.BigIntegerField()
    price = models.BigIntegerField(verbose_name=_("price"), null=True, help_text="Minor units for one piece, as it was at the start.")
    currency = models.CharField(verbose_name=_("currency"), max_length=3, blank=True)

    class Meta:
        verbose_name = _("checkout item")
        verbose_name_plural = _("checkout items")
        indexes = [models.Index(fields=["product"], name="checkout_items_of_product")]
        constraints = [
            models.UniqueConstraint(name="one_item_per_session_and_product", fields=["session", "product"]),
            RowCheck(name="checkout_count_is_positive", condition=Q(count__gt=0)),
            RowCheck(
                name="stocked_is_the_whole_count_or_none_of_it",
                # A CHECK accepts a comparison with NULL.
                condition=Q(stocked=F("count")) | Q(stocked__lt=0, stocked__gte=-F("count")),
            ),
            RowCheck(
                name="released_item_holds_nothing",
                condition=Q(released_at__isnull=True) | Q(stocked__isnull=False, stocked=-F("count")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.count} of {self.product_id} (#{self.pk})"


class AttentionQuerySet(models.QuerySet["Attention"]):
    """Named queries for flags for staff."""

    def open(self) -> "AttentionQuerySet":
        """Flags that are not resolved yet."""
        return self.filter(settled_at__isnull=True)

    def live(self) -> "AttentionQuerySet":
        """Flags that are work for staff: all but those of sandboxes."""
        return self.filter(basket__partner__sandbox_of__isnull=True)


class Attention(models.Model):
    """A flag for staff: the session may have been paid, although its order was refused or is short of stock.

    One row per session and reason, even if the call is repeated. `candidates` is set if the refused report named no order
    number: the last sessions of the basket that ended before the report, each with its order number, status and end.
    """

    class Reason(models.TextChoices):
        """Why staff should review the session."""

        ABORTED = "checkout_aborted", _("reported as ordered after it was aborted")
        EXPIRED = "checkout_expired", _("reported as ordered after the grace period")
        OUT_OF_STOCK = "out_of_stock", _("reported as ordered, and the stock was gone")
        BASKET_CHANGED = "basket_changed", _("reported as ordered after the basket had changed")
        SHORT = "short", _("ordered late without stock for every piece")

    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="attention", db_index=False)
    session = models.ForeignKey(CheckoutSession, on_delete=models.PROTECT, related_name="attention", db_index=False)
    reason = models.CharField(max_length=20, choices=Reason)
    created_at = models.DateTimeField()
    settled_at = models.DateTimeField(null=True)
    settled_by = models.CharField(verbose_name=_("settled by"), max_length=200, blank=True)
    note = models.TextField(verbose_name=_("note"), blank=True)
    candidates = models.JSONField(null=True, help_text="Null: the report named its order number, or that is not known.")
    merged = models.BooleanField(
        default=False, db_default=False, help_text="Settled by the service, because its basket has as many later open flags as it may have."
    )

    objects = AttentionQuerySet.as_manager()

    class Meta:
        verbose_name = _("attention")
        verbose_name_plural = _("attention")
        permissions = [
            ("repair_settle", gettext_noop("Can resolve an attention flag")),
            ("repair_take", gettext_noop("Can assign an attention flag")),
            ("repair_hand_back", gettext_noop("Can unassign an attention flag")),
        ]
        indexes = [
            models.Index(fields=["created_at"], name="open_attention", condition=Q(settled_at__isnull=True)),
            models.Index(fields=["basket"], name="attention_of_basket"),
        ]
        constraints = [
            models.UniqueConstraint(name="one_flag_per_session_and_reason", fields=["session", "reason"]),
            models.CheckConstraint(
                name="attention_reason_is_known",
                condition=Q(reason__in=["checkout_aborted", "checkout_expired", "out_of_stock", "basket_changed", "short"]),
            ),
            models.CheckConstraint(
                name="settled_attention_names_who",
                condition=Q(settled_at__isnull=True, settled_by="") | (Q(settled_at__isnull=False) & ~Q(settled_by="")),
            ),
            models.CheckConstraint(name="merged_attention_is_settled", condition=Q(merged=False) | Q(settled_at__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.get_reason_display()} (#{self.pk})"
