"""The key pairs with which the service signs the tokens of guests."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from baskets.models.locking import LockableQuerySet


class SigningKeyQuerySet(LockableQuerySet["SigningKey"]):
    """Named queries for signing keys."""

    def newest(self) -> "SigningKeyQuerySet":
        """The key that no other replaces: it signs now, or will sign once it was published long enough."""
        return self.filter(ends_at__isnull=True)

    def signing(self) -> "SigningKeyQuerySet":
        """The key that signs now, by the database's clock: of the valid ones, the last whose time has come."""
        return self.valid().filter(signs_from__lte=Now()).order_by("-signs_from", "-pk")[:1]

    def valid(self) -> "SigningKeyQuerySet":
        """Keys whose signatures are valid by the database's clock: the newest, and replaced ones before `ends_at`."""
        return self.filter(Q(ends_at__isnull=True) | Q(ends_at__gt=Now()))


class SigningKey(models.Model):
    """One key pair, named by its `kid`. The private half is encrypted; the public one is published.

    A key is published at once, signs from `signs_from` on, and until the time of another one has come. Its signatures stay valid
    until `ends_at`, when its last token expires.
    """

    kid = models.CharField(verbose_name=_("kid"), max_length=32, unique=True, db_collation="C")
    public_jwk = models.JSONField(verbose_name=_("public jwk"), help_text="What others check signatures with.")
    private_key = models.BinaryField(editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    signs_from = models.DateTimeField(db_default=Now(), help_text="From when it signs; it is published before.")
    ends_at = models.DateTimeField(null=True, help_text="Until when its signatures are good; empty while no other key replaces it.")

    objects = SigningKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("signing key")
        verbose_name_plural = _("signing keys")
        constraints = [
            models.UniqueConstraint(name="one_key_signs", fields=["ends_at"], condition=Q(ends_at__isnull=True), nulls_distinct=False),
        ]

    def __str__(self) -> str:
        return self.kid
