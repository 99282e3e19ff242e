"""Stock of limited products, its adjustments, and the reservations that hold it."""

from collections.abc import Iterable
from datetime import UTC, datetime

from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now
from django.db.models.lookups import Exact, IsNull
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop

from baskets.db.constraints import RowCheck
from baskets.models.locking import LockableQuerySet

EPOCH = datetime.fromtimestamp(0, UTC)


class StockQuerySet(LockableQuerySet["Stock"]):
    """Named queries for stock rows."""

    def reported(self) -> "StockQuerySet":
        """Rows of products whose number was reported, as of a moment after the epoch. Others came from another cell, without pieces."""
        return self.filter(reported_as_of__gt=EPOCH)


class Stock(models.Model):
    """The counters of a product that is limited, or once was.

    At every commit: the sum of its adjustments = available + held + sold - shortfall. Of a limited product also:
    available - shortfall = reported - held - sold after that moment + supply recorded after that moment.
    A product without a row, or with `limited` off, is unlimited. The counters stay in use after `limited` is switched off,
    because earlier holds still end.
    """

    product = models.OneToOneField("Product", primary_key=True, on_delete=models.PROTECT, related_name="stock")
    limited = models.BooleanField(verbose_name=_("limited"), default=True)
    available = models.BigIntegerField(verbose_name=_("available"), help_text="Pieces that may still be reserved.")
    shortfall = models.BigIntegerField(
        verbose_name=_("shortfall"), default=0, help_text="Pieces held although the shop no longer has them."
    )
    reported = models.BigIntegerField(null=True, help_text="Unsold pieces by the latest report, held ones included; null is unlimited.")
    reported_as_of = models.DateTimeField(db_default=Now(), help_text="The moment the latest report speaks of.")
    purged_until = models.DateTimeField(null=True, help_text="The moment of the last sale whose record was purged.")

    objects = StockQuerySet.as_manager()

    class Meta:
        verbose_name = _("stock")
        verbose_name_plural = _("stock")
        permissions = [
            ("repair_set_unsold", gettext_noop("Can set the unsold pieces of a product")),
            ("repair_adjust_supply", gettext_noop("Can record pieces added or removed")),
        ]
        constraints = [
            RowCheck(name="available_is_not_negative", condition=Q(available__gte=0)),
            RowCheck(name="shortfall_is_not_negative", condition=Q(shortfall__gte=0)),
            RowCheck(name="available_or_shortfall_is_zero", condition=Q(available=0) | Q(shortfall=0)),
        ]

    def __str__(self) -> str:
        return f"stock of {self.product_id}"


class StockAdjustment(models.Model):
    """One recorded change of supply: who, why, how many. Never edited."""

    class Kind(models.TextChoices):
        """What changed the supply."""

        UNSOLD = "unsold", _("number of unsold pieces reported")
        UNLIMITED = "unlimited", _("product became unlimited")
        SUPPLY = "supply", _("pieces added or removed")
        UNHELD = "unheld", _("pieces ordered while the product was unlimited")
        PURGED = "purged", _("sold pieces of purged orders")

    product = models.ForeignKey(Stock, on_delete=models.PROTECT, related_name="adjustments", db_index=False)
    kind = models.CharField(verbose_name=_("kind"), max_length=10, choices=Kind)
    delta = models.BigIntegerField(help_text="By how many pieces the supply changed.")
    reported = models.BigIntegerField(verbose_name=_("reported"), null=True, help_text="The number of unsold pieces that was reported.")
    as_of = models.DateTimeField(
        verbose_name=_("as of"), help_text="The moment a report speaks of; else when the pieces came, went or were sold."
    )
    reason = models.CharField(max_length=500)
    actor = models.CharField(max_length=200)
    created_at = models.DateTimeField()
    # One of the two halves of a move between cells. See Note [Halves of a move] in `domain.cells.stock_moves`.
    move = models.UUIDField(null=True)
    moved = models.BigIntegerField(null=True, help_text="By how many pieces the move changes this cell; `delta` is 0 if a report had them.")
    other_cell = models.BigIntegerField(null=True, help_text="The cell of the other half.")

    class Meta:
        verbose_name = _("stock adjustment")
        verbose_name_plural = _("stock adjustments")
        indexes = [
            models.Index(fields=["product", "id"], name="adjustments_of_product"),
            # For reports about an earlier moment: the supply to add, and purged sales that prevent the report.
            models.Index(fields=["product", "as_of"], name="supply_after_a_moment", condition=Q(kind__in=["supply", "unheld", "purged"])),
        ]
        constraints = [
            models.CheckConstraint(
                name="adjustment_kind_is_known", condition=Q(kind__in=["unsold", "unlimited", "supply", "unheld", "purged"])
            ),
            models.CheckConstraint(name="adjustment_has_a_reason", condition=~Q(reason="")),
            models.CheckConstraint(
                name="unsold_report_has_its_number",
                # A CHECK accepts a comparison with NULL, so `reported__isnull` is tested as well.
                condition=Q(kind="unsold", reported__isnull=False, reported__gte=0) | (~Q(kind="unsold") & Q(reported__isnull=True)),
            ),
            models.CheckConstraint(name="purge_adds_no_supply", condition=~Q(kind="purged") | Q(delta__lt=0)),
            models.CheckConstraint(name="unheld_sale_takes_supply", condition=~Q(kind="unheld") | Q(delta__lt=0)),
            models.CheckConstraint(name="becoming_unlimited_moves_no_supply", condition=~Q(kind="unlimited") | Q(delta=0)),
            # The protection against adding the pieces of a move twice.
            models.UniqueConstraint(name="one_half_of_a_move_per_cell", fields=["move"], condition=Q(move__isnull=False)),
            models.CheckConstraint(
                name="half_of_a_move_is_whole",
                condition=Q(move__isnull=True, moved__isnull=True, other_cell__isnull=True)
                | Q(Q(delta=F("moved")) | Q(delta=0), ~Q(moved=0), kind="supply", move__isnull=False, moved__isnull=False)
                & Q(other_cell__isnull=False, other_cell__gt=0),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.delta:+d} of {self.product_id} (#{self.pk})"


class StockElsewhere(models.Model):
    """What the other cells have of a limited product, as `rebalance_stock` last saw it. Nothing is decided by it."""

    product = models.OneToOneField(Stock, primary_key=True, on_delete=models.CASCADE, related_name="+")
    available = models.BigIntegerField(help_text="Pieces that the other cells can sell together.")
    read_at = models.DateTimeField(help_text="When that became so, by a look at all cells.")

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.available} of {self.product_id} elsewhere"


class StockReservationQuerySet(models.QuerySet["StockReservation"]):
    """Named queries for reservations."""

    def held(self) -> "StockReservationQuerySet":
        """Reservations that hold stock now."""
        return self.filter(status=StockReservation.Status.HELD)

    def lapsed(self, product_ids: Iterable[str]) -> "StockReservationQuerySet":
        """Holds on these products past their end that no sweep has released yet, oldest first."""
        return self.held().filter(product_id__in=list(product_ids), expires_at__lte=Now()).order_by("expires_at", "session_id")


class StockReservation(models.Model):
    """The hold of one checkout item on stock.

    HELD, then SOLD or RELEASED. FAILED if nothing could be held at the start. A late order adds separate records: SOLD, and
    SHORT for pieces ordered without stock.
    """

    class Status(models.TextChoices):
        """The state of the hold."""

        HELD = "HELD", _("held")
        SOLD = "SOLD", _("sold")
        RELEASED = "RELEASED", _("released")
        FAILED = "FAILED", _("failed: nothing could be held")
        SHORT = "SHORT", _("short: ordered late without stock")

    # Three keys without a check: see Note [Keys without a check] in `models.events`.
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="reservations", db_index=False, db_constraint=False)
    session = models.ForeignKey(
        "CheckoutSession", on_delete=models.PROTECT, related_name="reservations", db_index=False, db_constraint=False
    )
    product = models.ForeignKey("Product", on_delete=models.PROTECT, related_name="reservations", db_index=False, db_constraint=False)
    status = models.CharField(max_length=10, choices=Status)
    pieces = models.BigIntegerField(verbose_name=_("pieces"))
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField(help_text="The end of the hold.")
    ended_at = models.DateTimeField(null=True, help_text="When it was sold or released; failed and short end at once.")

    objects = StockReservationQuerySet.as_manager()

    class Meta:
        verbose_name = _("stock reservation")
        verbose_name_plural = _("stock reservations")
        permissions = [("repair_release", gettext_noop("Can release one reservation"))]
        indexes = [
            # For reclaiming lapsed holds, and for the admin's list of who holds a product until when.
            models.Index(fields=["product", "expires_at"], name="holds_of_product", condition=Q(status="HELD")),
            models.Index(fields=["product", "ended_at"], name="sales_of_product", condition=Q(status="SOLD")),
        ]
        constraints = [
            RowCheck(name="reservation_status_is_known", condition=Q(status__in=["HELD", "SOLD", "RELEASED", "FAILED", "SHORT"])),
            RowCheck(name="reservation_has_pieces", condition=Q(pieces__gt=0)),
            RowCheck(
                name="reservation_ended_unless_held",
                condition=Q(Exact(IsNull(F("ended_at"), True), Exact(F("status"), Value("HELD")))),
            ),
            # A CHECK accepts a comparison with NULL.
            RowCheck(name="reservation_ends_after_it_began", condition=Q(ended_at__gte=F("created_at"))),
            # The second protection against selling twice: a session holds or has sold a product at most once, and has one SHORT record of
            # it. Any others differ by their id, so that this is also the index by session. See ADR 71.
            models.UniqueConstraint(
                "session",
                "product",
                Case(When(status__in=["HELD", "SOLD"], then=Value(0)), When(status="SHORT", then=Value(-1)), default=F("id")),
                name="one_live_and_one_short_record_per_checkout_item",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.pieces} of {self.product_id} (#{self.pk})"
