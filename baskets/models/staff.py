"""The access of staff: admin sessions, stored by digest, and second factors, stored encrypted."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.contrib.sessions.base_session import AbstractBaseSession
from django.db import models
from django.db.models import Q

from baskets.models.locking import LockableQuerySet


class StaffSession(AbstractBaseSession):
    """One admin session. The table stores a digest of the session key, so that a reader of the table cannot use it.

    `expire_date` is the earlier of two limits: the maximum duration, and the time without a request.
    """

    session_key = models.CharField(max_length=64, primary_key=True, db_collation="C", help_text="SHA-256 of the key in the cookie.")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    source = models.CharField(max_length=64, blank=True, help_text="The address that signed in.")
    browser = models.CharField(max_length=300, blank=True, help_text="As the browser named itself at the sign-in.")
    started_at = models.DateTimeField()
    seen_at = models.DateTimeField(help_text="The last request, to the minute.")
    ended_by = models.CharField(max_length=150, blank=True, help_text="Who ended it before its time.")

    class Meta(AbstractBaseSession.Meta):
        default_permissions = ()
        constraints = [models.CheckConstraint(name="session_key_is_a_digest", condition=Q(session_key__regex="^[0-9a-f]{64}$"))]


class SecondFactorQuerySet(LockableQuerySet["SecondFactor"]):
    """Queries for second factors."""


class SecondFactor(models.Model):
    """The authenticator app of a member of staff, stored once a code has confirmed it.

    `last_timecode` only grows, so a used code and all earlier ones are refused.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, primary_key=True, on_delete=models.CASCADE, related_name="+")
    secret = models.BinaryField(help_text="The shared secret, encrypted.")
    enrolled_at = models.DateTimeField()
    last_timecode = models.BigIntegerField(help_text="The time step of the last code that was accepted.")
    recovery_codes = ArrayField(models.CharField(max_length=64), help_text="SHA-256 of each code that is not used yet.")

    objects = SecondFactorQuerySet.as_manager()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return f"second factor of account {self.pk}"
