"""Records of the bearer tokens that give guests access to a basket. The tokens themselves are not stored."""

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop


class GuestToken(models.Model):
    """One token that the service has signed, which stands for one device: its `jti` claim and its revocation."""

    jti = models.UUIDField(primary_key=True, editable=False)
    basket = models.ForeignKey("Basket", on_delete=models.PROTECT, related_name="guest_tokens")
    transferred = models.BooleanField(help_text="Whether the device took the basket over from another one.")
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=200, blank=True)

    class Meta:
        verbose_name = _("device of a guest")
        verbose_name_plural = _("devices of guests")
        permissions = [("repair_revoke_device", gettext_noop("Can revoke the token of a device"))]
        constraints = [
            models.CheckConstraint(name="guest_token_expires_after_its_creation", condition=Q(expires_at__gt=F("created_at"))),
            models.CheckConstraint(
                name="revoked_guest_token_names_who",
                condition=Q(revoked_at__isnull=True, revoked_by="") | (Q(revoked_at__isnull=False) & ~Q(revoked_by="")),
            ),
        ]

    def __str__(self) -> str:
        return f"device {self.jti}"
