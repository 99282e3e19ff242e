"""The issuers whose bearer tokens a partner trusts."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from baskets.models.locking import LockableQuerySet

# Asymmetric only: a shared secret that verifies tokens can also sign them.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class TokenIssuerQuerySet(LockableQuerySet["TokenIssuer"]):
    """Named queries for issuers."""

    def published(self) -> "TokenIssuerQuerySet":
        """Issuers that publish their keys at a URL."""
        return self.exclude(keys_url="")


class TokenIssuer(models.Model):
    """One issuer that a partner trusts: the expected claims of its tokens, and its public keys.

    The row stores either the keys or the URL of the issuer's key set. The last fetched key set is stored too, so that all
    workers share it. During a fetch the row carries a lease: only its holder stores the result.
    """

    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="issuers", db_index=False)
    name = models.CharField(max_length=100, db_collation="C", help_text="What it is called here.")
    issuer = models.CharField(verbose_name=_("issuer"), max_length=255, blank=True, help_text="What `iss` must be. Empty: anything.")
    audience = models.CharField(
        verbose_name=_("audience"), max_length=255, blank=True, help_text="What `aud` must be or contain. Empty: anything."
    )
    algorithms = ArrayField(models.CharField(max_length=5))
    keys = models.JSONField(null=True, help_text="A JSON Web Key Set.")
    keys_url = models.CharField(max_length=2000, blank=True, help_text="Where the issuer publishes its key set.")
    fetched_keys = models.JSONField(null=True, editable=False, help_text="The usable keys of the last set that had any.")
    fetched_at = models.DateTimeField(null=True, editable=False, help_text="When that set was fetched.")
    fetch_problem = models.CharField(max_length=500, blank=True, db_default="", editable=False, help_text="Why the last fetch failed.")
    fetch_lease = models.UUIDField(null=True, editable=False)
    next_fetch_at = models.DateTimeField(null=True, editable=False, help_text="No fetch before; while one runs: when its lease ends.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.CharField(max_length=150, editable=False, help_text="Staff name or command.")

    objects = TokenIssuerQuerySet.as_manager()

    class Meta:
        verbose_name = _("token issuer")
        verbose_name_plural = _("token issuers")
        constraints = [
            models.UniqueConstraint(name="one_issuer_per_partner_and_name", fields=["partner", "name"]),
            models.CheckConstraint(
                name="issuer_has_keys_or_their_address",
                condition=Q(keys__isnull=False, keys_url="") | (Q(keys__isnull=True) & ~Q(keys_url="")),
            ),
            models.CheckConstraint(
                name="issuer_signs_with_known_algorithms",
                condition=Q(algorithms__len__gt=0, algorithms__contained_by=list(ALGORITHMS)),
            ),
            models.CheckConstraint(
                name="fetched_keys_have_their_time_and_their_address",
                condition=Q(fetched_keys__isnull=True, fetched_at__isnull=True)
                | (Q(fetched_keys__isnull=False, fetched_at__isnull=False) & ~Q(keys_url="")),
            ),
        ]

    def __str__(self) -> str:
        return self.name
