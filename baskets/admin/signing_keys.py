"""The keys that sign the tokens of guests, read-only. The command `rotate_guest_keys` replaces them."""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.core.columns import column
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.models import SigningKey


@admin.register(SigningKey)
class SigningKeyAdmin(ReadOnlyAdmin[SigningKey]):
    """Keys, the newest first. Their private halves are never shown."""

    list_display = ("kid", "state", "created", "until")
    ordering = ("-pk",)
    shown = ("kid", "state", "created", "until", "public_jwk")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Leave out the private half, and annotate whether the last token of the key has expired, and whether the key signs later."""
        return super().get_queryset(request).defer("private_key").annotate(ended=Q(ends_at__lte=Now()), waits=Q(signs_from__gt=Now()))

    @admin.display(description=_("state"))
    def state(self, key: SigningKey) -> SafeString:
        """Whether it signs, and whether its signatures are valid."""
        if getattr(key, "waits", False):
            return display.badge(gettext("published, signs later"), "plain")
        if key.ends_at is None:
            return display.badge(gettext("signs"), "good")
        return (
            display.badge(gettext("over"), "plain")
            if getattr(key, "ended", False)
            else display.badge(gettext("replaced, still trusted"), "plain")
        )

    created = column(_("created"), "created_at", display.moment)

    @admin.display(description=_("trusted until"))
    def until(self, key: SigningKey) -> SafeString | str:
        """When the last token that it has signed expires."""
        return display.moment(key.ends_at) if key.ends_at else gettext("it is replaced")
