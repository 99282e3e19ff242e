"""Partners and their API keys."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from baskets.models.locking import LockableQuerySet


class PartnerQuerySet(LockableQuerySet["Partner"]):
    """Queries for partners."""


class Partner(models.Model):
    """A streaming platform. User ids are unique within a partner only, so each basket belongs to one partner."""

    class LateOrders(models.TextChoices):
        """The effect of a late order whose stock is gone."""

        REFUSE = "refuse", _("refuse when stock is gone")
        ACCEPT = "accept", _("accept, and record what is short")

    name = models.CharField(verbose_name=_("name"), max_length=100, unique=True, db_collation="C")
    late_orders = models.CharField(verbose_name=_("late orders"), max_length=10, choices=LateOrders, default=LateOrders.REFUSE)
    hold_seconds = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: the default of the service.")
    share_percent = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: the default of the service. 0: no limit.")
    orders_need_server_key = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Recommended. Only server keys may report `ordered: true`: a key stolen out of an app sells nothing.",
    )
    origins = ArrayField(models.CharField(max_length=255), default=list, blank=True, help_text="Of web pages that may call with its keys.")
    sandbox_of = models.OneToOneField(
        "self",
        on_delete=models.PROTECT,
        null=True,
        editable=False,
        related_name="sandbox",
        help_text="The partner whose sandbox this is; empty: this partner sells.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = PartnerQuerySet.as_manager()

    class Meta:
        verbose_name = _("partner")
        verbose_name_plural = _("partners")
        constraints = [
            models.CheckConstraint(name="late_orders_is_known", condition=Q(late_orders__in=["refuse", "accept"])),
            models.CheckConstraint(name="own_hold_is_positive", condition=Q(hold_seconds__isnull=True) | Q(hold_seconds__gt=0)),
            models.CheckConstraint(name="own_share_is_a_percentage", condition=Q(share_percent__isnull=True) | Q(share_percent__lte=100)),
            models.CheckConstraint(name="sandbox_is_another_partner", condition=Q(sandbox_of__isnull=True) | ~Q(sandbox_of=F("id"))),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_sandbox(self) -> bool:
        """Return whether its baskets are tests: they contain only products of the sandbox, and nothing in them is sold."""
        return self.sandbox_of_id is not None


class ApiKeyQuerySet(LockableQuerySet["ApiKey"]):
    """Named queries for keys."""

    def valid(self) -> "ApiKeyQuerySet":
        """Keys that are neither revoked nor expired by the database's clock."""
        return self.filter(Q(expires_at__isnull=True) | Q(expires_at__gt=Now()), revoked_at__isnull=True)


class ApiKey(models.Model):
    """One API key of a partner, stored as a prefix for the look-up and a digest for the check."""

    class Kind(models.TextChoices):
        """Who holds the key."""

        SERVER = "server", _("server: the partner's back end, for any user")
        CLIENT = "client", _("client: inside apps, only with the user's own token")

    partner = models.ForeignKey(Partner, on_delete=models.PROTECT, related_name="api_keys")
    prefix = models.CharField(verbose_name=_("prefix"), max_length=16, unique=True, db_collation="C", editable=False)
    digest = models.BinaryField(max_length=32, editable=False)
    kind = models.CharField(verbose_name=_("kind"), max_length=10, choices=Kind, default=Kind.SERVER)
    label = models.CharField(max_length=100, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.CharField(max_length=150, editable=False, help_text="Staff name or command.")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(verbose_name=_("revoked at"), null=True, blank=True, editable=False)
    calls_per_minute = models.PositiveIntegerField(null=True, blank=True, help_text="Empty: the limit of the service. 0: none.")

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        constraints = [
            models.CheckConstraint(name="key_kind_is_known", condition=Q(kind__in=["server", "client"])),
            models.CheckConstraint(
                name="key_ends_after_it_was_made",
                condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.prefix} ({self.kind})"
