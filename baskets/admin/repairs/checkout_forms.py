"""The forms of repairs of a checkout."""

from datetime import timedelta
from typing import Any

from django import forms
from django.db.models import Q
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core.late_stock import LateStock, late_stock, pieces
from baskets.admin.repairs.forms import OrderReasonForm, RepairForm
from baskets.models import CheckoutItem, CheckoutSession, Product


class LateOrderForm(OrderReasonForm):
    """Whether a late order may be short of pieces. For a single checkout, shown only if pieces are missing."""

    accept_short = forms.BooleanField(
        required=False,
        label=_("Order even if stock is short"),
        help_text=_("Pieces without stock are recorded as SHORT, and the checkout is flagged for them."),
    )
    stock: LateStock | None = None

    def prepare(self, record: CheckoutSession) -> None:
        """Compare the checkout with the current stock."""
        self.stock = read_late_stock(record)
        field = self.fields["accept_short"]
        if self.stock.missing:
            # Only with this consent can the late order be made at all.
            field.required = True
            field.label = gettext("Order with %(pieces)s short") % {"pieces": pieces(self.stock.missing)}
            advice = gettext("Choose this to order without them, or leave the page to refund.")
            field.error_messages["required"] = f"{self.stock} {advice}"
        else:
            field.widget = forms.HiddenInput()

    @property
    def notice(self) -> str:
        """What is in stock for the late order."""
        return str(self.stock or "")

    @property
    def default_details(self) -> dict[str, Any] | None:
        """Preview a late order with what is available."""
        return None if self.stock is None else {"accept_short": bool(self.stock.missing)}


def read_late_stock(session: CheckoutSession) -> LateStock:
    """Read what a late order of a checkout would find in stock."""
    items = CheckoutItem.objects.filter(Q(stocked__isnull=True) | Q(stocked__gt=0), session_id=session.pk, basket_id=session.basket_id)
    counts = {} if session.test_mode else dict(items.values_list("product_id", "count"))
    products: Any = Product.objects.filter(pk__in=counts).with_obtainable()
    return late_stock((counts[product.pk], product.obtainable) for product in products)


class MinutesForm(RepairForm):
    """A number of minutes."""

    minutes = forms.IntegerField(min_value=1, label=_("Minutes"), help_text=_("Counted from now."))

    def prepare(self, record: CheckoutSession) -> None:
        """Suggest the longest extension."""
        self.fields["minutes"].initial = conf.hold_extension() // timedelta(minutes=1)

    @property
    def default_details(self) -> dict[str, Any] | None:
        """Preview the suggestion."""
        return {"minutes": self.fields["minutes"].initial} if self.fields["minutes"].initial else None
