"""The forms of the settings of a partner."""

from datetime import timedelta

from django import forms
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core.limits import LimitField
from baskets.admin.repairs.forms import RepairForm
from baskets.domain.access import partners
from baskets.models import Partner


class PartnerTermsForm(forms.Form):
    """The settings that a partner is created with."""

    late_orders = forms.ChoiceField(choices=Partner.LateOrders.choices, label=_("A late order whose stock is gone"))
    hold = forms.DurationField(
        label=_("Hold"),
        required=False,
        help_text=_("How long a checkout holds its stock, as hours:minutes:seconds, such as 0:15:00. Empty: the default of the service."),
    )
    share_percent = LimitField(
        label=_("Share of a product, in percent"),
        max_value=partners.MAX_SHARE_PERCENT,
        help_text=_(
            "The percentage of the unsold pieces of a product that its checkouts may hold at once. Empty: the default of the service."
        ),
    )
    orders_need_server_key = forms.BooleanField(
        required=False,
        label=_("Only server keys may report an order"),
        help_text=_(
            "Recommended where the partner has a back end: a client key can be stolen out of an app, and a stolen one then sells nothing."
        ),
    )

    def clean_hold(self) -> int | None:
        """Return the hold in whole seconds; None for the default of the service."""
        hold: timedelta | None = self.cleaned_data["hold"]
        return None if hold is None else hold // timedelta(seconds=1)


class PartnerSettingsForm(PartnerTermsForm, RepairForm):
    """All settings of a partner, filled in."""

    has_timeline = False

    origins = forms.CharField(
        max_length=partners.MAX_ORIGINS * (partners.MAX_ORIGIN_LENGTH + 1),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        label=_("Web origins"),
        help_text=_("Pages from which its keys may be used: one in a line, as https://player.example.com. Empty: none."),
    )
    field_order = ("late_orders", "hold", "share_percent", "orders_need_server_key", "origins")

    offered_reasons = staticmethod(conf.access_reasons)

    def prepare(self, record: Partner) -> None:
        """Fill in the current settings."""
        for name in ("late_orders", "share_percent", "orders_need_server_key"):
            self.fields[name].initial = getattr(record, name)
        self.fields["hold"].initial = None if record.hold_seconds is None else timedelta(seconds=record.hold_seconds)
        self.fields["origins"].initial = "\n".join(record.origins)

    def clean_origins(self) -> list[str]:
        """Return the origins, sorted."""
        return sorted(set(self.cleaned_data["origins"].split()))
