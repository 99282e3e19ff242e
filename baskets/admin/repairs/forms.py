"""What staff say when they repair something: the reason, always, and what else the repair has to know."""

import json
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db.models.functions import Now
from django.utils.timezone import get_current_timezone_name

from baskets import conf
from baskets.admin.core import display
from baskets.db.errors import read_with_reconnect
from baskets.domain.stock.catalog import MAX_PIECES
from baskets.domain.support import guards
from baskets.models import Product
from baskets.models.basket_snapshot import read_basket

MAX_DAYS = 3650


class RepairForm(forms.Form):
    """The reason, and the state that was on the page.

    :param record: what is repaired; None for many rows at once.
    """

    seen = forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**62)
    reason = forms.CharField(
        max_length=guards.REASON_LIMIT,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text="Stays in the timeline, beside your name. No names of customers, no card numbers.",
    )
    field_order: Any = None

    def __init__(self, *args: Any, record: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.record = record
        if record is None:  # For many rows, each with a state of its own.
            del self.fields["seen"]
        self.order_fields([name for name in self.fields if name != "reason"])
        self.prepare()

    def prepare(self) -> None:
        """Fit the fields to the record."""

    def clean_reason(self) -> str:
        """Take no reason that cannot be read."""
        text = str(self.cleaned_data["reason"])
        if any(not (char.isprintable() or char in "\r\n\t") for char in text):
            raise ValidationError("Some of its characters do not print.")
        return text

    @property
    def asks(self) -> bool:
        """Tell whether more than the reason is asked for."""
        return bool(self.fields.keys() - RepairForm.base_fields.keys())

    @property
    def shown(self) -> str:
        """Name what was said beside the reason: what is confirmed must be what was shown."""
        return json.dumps(self.said, sort_keys=True, default=str)

    @property
    def said(self) -> dict[str, Any]:
        """What was said beside the reason."""
        return {name: value for name, value in self.cleaned_data.items() if name not in RepairForm.base_fields}


class LateForm(RepairForm):
    """Whether a late order may be short."""

    accept_short = forms.BooleanField(
        required=False,
        label="Order even if stock is short",
        help_text="Pieces without stock behind them are recorded as short, and a matter is opened for them.",
    )


class UnsoldForm(RepairForm):
    """The number of unsold pieces."""

    unsold = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_PIECES,
        label="Unsold pieces",
        help_text="All that the shop has not sold yet, held ones included.",
    )
    unlimited = forms.BooleanField(required=False, help_text="There is no limit: nothing has to be held.")
    counted_at = forms.DateTimeField(required=False, label="Counted at")
    opened_at = forms.DateTimeField(widget=forms.HiddenInput)

    def prepare(self) -> None:
        """Take the database's clock for the moment of the count, and keep it until the report is confirmed."""
        if not self.is_bound:
            at = Product.objects.annotate(at=Now()).values_list("at", flat=True).get(pk=self.record.pk)
            # With its offset, which a field would leave out: an hour comes twice when summer time ends.
            self.fields["opened_at"].initial = at.isoformat()
        self.fields["counted_at"].help_text = (
            f"Empty: when this page was opened{self._opened()}. Otherwise as 2026-11-24 06:00, in the time zone of this page"
            f" ({get_current_timezone_name()}). What is sold after the count is subtracted, what is supplied after it is added."
        )

    def _opened(self) -> str:
        """Say when the page was opened, in the zone in which the other field is read; nothing of a forged moment."""
        try:
            return f", {display.clock(self.fields['opened_at'].clean(self['opened_at'].value()))}"
        except (ValidationError, OverflowError):
            return ""

    def clean(self) -> dict[str, Any]:
        """Take a number or no limit, one of them, as of when it was counted."""
        said = super().clean() or self.cleaned_data
        opened_at, counted_at = said.pop("opened_at", None), said.pop("counted_at", None)
        said["as_of"] = counted_at or opened_at
        if not self.errors and (said.get("unsold") is None) != bool(said.get("unlimited")):
            raise ValidationError("Either give a number, or say that the product is unlimited.")
        return said


class SupplyForm(RepairForm):
    """Pieces that came in or were taken out."""

    pieces = forms.IntegerField(min_value=-MAX_PIECES, max_value=MAX_PIECES, help_text="5 for five that came in, -5 for five taken out.")


class ItemForm(RepairForm):
    """What becomes of an item in cart or saved."""

    # What the basket does not hold any more is for the domain to refuse, which can say what has happened.
    product = forms.CharField(max_length=255, strip=False, widget=forms.Select)
    to = forms.ChoiceField(
        choices=[("cart", "is in the cart, with this count"), ("saved", "is in the saved list"), ("out", "is removed")],
        label="It",
    )
    count = forms.IntegerField(required=False, min_value=1)

    def prepare(self) -> None:
        """Offer what the basket holds."""
        contents = read_with_reconnect(lambda: read_basket(self.record.pk))
        lines = [(line, name) for name in ("cart", "saved") for line in (getattr(contents, name) if contents else ())]
        offered = [(line.product_id, f"{display.as_plain_text(line.product_id)} ({name}, {line.count})") for line, name in lines]
        self.fields["product"].widget.choices = offered
        self.fields["count"].max_value = conf.piece_limit()  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Ask for a count where it means something."""
        said = super().clean() or self.cleaned_data
        count = said.get("count")
        if said.get("to") == "cart" and "count" not in self.errors and count is None:
            self.add_error("count", "How many pieces?")
        elif count is not None and count > conf.piece_limit():
            self.add_error("count", f"At most {conf.piece_limit()} pieces.")
        return said


class DaysForm(RepairForm):
    """For how long."""

    days = forms.IntegerField(min_value=1, max_value=MAX_DAYS, help_text="From now on.")
