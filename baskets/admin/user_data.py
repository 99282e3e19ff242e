"""What users have beside their baskets: devices, transfers, and whether comfort settings exist. Never the values of the settings."""

from typing import Any

from django.contrib import admin
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display
from baskets.admin.core.columns import column
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.repairs.admin import RepairAdmin
from baskets.admin.repairs.registry import DEVICE_REPAIRS
from baskets.models import Comfort, GuestToken, Transfer


@admin.register(Transfer)
class TransferAdmin(ReadOnlyAdmin[Transfer]):
    """Transfers, the newest first. A token is stored as a digest, which is never shown."""

    list_display = ("offered", "user", "state", "taken")
    list_select_related = ("basket",)
    ordering = ("-pk",)
    shown = ("user", "state", "offered", "until", "taken")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Leave out the digest, and annotate whether the transfer has expired."""
        return super().get_queryset(request).defer("digest").annotate(ended=Q(expires_at__lte=Now()))

    user = column(_("user"), "basket.user_id", display.visible, limit=60)

    @admin.display(description=_("state"))
    def state(self, transfer: Transfer) -> SafeString:
        """What became of it."""
        if transfer.redeemed_at:
            return display.badge(gettext("taken"), "good")
        return display.badge(gettext("expired"), "plain") if getattr(transfer, "ended", False) else display.badge(gettext("open"), "busy")

    offered = column(_("offered"), "created_at", display.moment)
    until = column(_("until"), "expires_at", display.moment)
    taken = column(_("taken"), "redeemed_at", display.moment)


@admin.register(GuestToken)
class GuestTokenAdmin(RepairAdmin):
    """Devices that handle a basket as guests, the newest first. Their tokens are stored nowhere."""

    repairs = DEVICE_REPAIRS
    list_display = ("device", "user", "came_by", "state", "begun", "until")
    list_select_related = ("basket",)
    search_fields = ("jti__exact", "basket__user_id__exact")
    ordering = ("-created_at", "jti")
    search_help_text = _("A whole user id, or the whole id of a device.")
    shown = ("user", "came_by", "state", "begun", "until", "revoked")

    device = column(_("device"), "pk", str)

    @admin.display(description=_("came by"))
    def came_by(self, token: GuestToken) -> str:
        """How it got the basket."""
        return display.came_by(transferred=token.transferred)

    @admin.display(description=_("user"))
    def user(self, token: GuestToken) -> SafeString:
        """Whose basket it is."""
        return display.basket(token.basket_id, token.basket.user_id)

    state = column(_("state"), None, display.device_state)
    begun = column(_("since"), "created_at", display.moment)
    until = column(_("until"), "expires_at", display.moment)

    @admin.display(description=_("revoked"))
    def revoked(self, token: GuestToken) -> SafeString | str:
        """When it was revoked, and by whom."""
        if token.revoked_at is None:
            return display.NOTHING
        return format_html(gettext("{} by {}"), display.moment(token.revoked_at), display.visible(token.revoked_by))


@admin.register(Comfort)
class ComfortAdmin(ReadOnlyAdmin[Comfort]):
    """Whether settings are stored for a user, and since when; by the key of the basket, which does not name the user."""

    list_display = ("basket_id", "customer_id_there", "payment_token_there", "consented", "changed")
    ordering = ("basket_id",)
    shown = ("basket_id", "customer_id_there", "payment_token_there", "consented", "changed")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Read only whether there are values: the values stay in the database."""
        there = {f"has_{name}": Q(**{f"{name}__isnull": False}) for name in ("customer_id", "payment_token")}
        return super().get_queryset(request).defer("customer_id", "payment_token").annotate(**there)

    @admin.display(description=_("customer id"))
    def customer_id_there(self, comfort: Comfort) -> str:
        """Whether there is one."""
        return gettext("stored") if getattr(comfort, "has_customer_id", False) else display.NOTHING

    @admin.display(description=_("payment token"))
    def payment_token_there(self, comfort: Comfort) -> str:
        """Whether there is one."""
        return gettext("stored") if getattr(comfort, "has_payment_token", False) else display.NOTHING

    consented = column(_("consent since"), "consented_at", display.moment)
    changed = column(_("changed"), "changed_at", display.moment)
