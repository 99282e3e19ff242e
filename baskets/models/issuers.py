"""Who else may say who a user is: the issuers of tokens that a partner trusts."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

# Asymmetric only: with a shared secret, whoever verifies could sign.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")


class TokenIssuer(models.Model):
    """One issuer that a partner trusts: what its tokens say, and where its public keys are.

    Either the keys are stored, or the address at which the issuer publishes them.
    """

    partner = models.ForeignKey("Partner", on_delete=models.PROTECT, related_name="issuers", db_index=False)
    name = models.CharField(max_length=100, db_collation="C", help_text="What it is called here.")
    issuer = models.CharField(max_length=255, blank=True, help_text="What `iss` must be. Empty: anything.")
    audience = models.CharField(max_length=255, blank=True, help_text="What `aud` must be or contain. Empty: anything.")
    algorithms = ArrayField(models.CharField(max_length=5))
    keys = models.JSONField(null=True, help_text="A JSON Web Key Set.")
    keys_url = models.CharField(max_length=2000, blank=True, help_text="Where the issuer publishes its key set.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    created_by = models.CharField(max_length=150, editable=False, help_text="Staff name or command.")

    class Meta:
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
        ]

    def __str__(self) -> str:
        return self.name
