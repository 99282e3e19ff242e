"""The forms of repairs of a basket."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db.models import Q
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core import display
from baskets.admin.repairs.forms import RepairForm, WrittenReasonForm
from baskets.db.errors import read_with_reconnect
from baskets.domain.support import erasure
from baskets.models import Basket, Product
from baskets.models.basket_snapshot import read_basket

MAX_DAYS = 3650
LIST_NAMES = {"cart": _("cart"), "saved": _("saved")}
# Products that a form names where staff have entered a part of a name.
MAX_ALIKE = 5


class ItemForm(RepairForm):
    """The new count and list of an item in the cart or the saved list."""

    # Any text is valid here: the domain refuses a product that the basket no longer has, and knows what has changed.
    product = forms.CharField(max_length=255, strip=False, label=_("Product"), widget=forms.Select)
    to = forms.ChoiceField(
        choices=[("cart", _("is in the cart, with this count")), ("saved", _("is in the saved list")), ("out", _("is removed"))],
        label=_("It"),
    )
    count = forms.IntegerField(required=False, min_value=1, label=_("Count"))

    def prepare(self, record: Basket) -> None:
        """Offer the items of the basket."""
        snapshot = read_with_reconnect(lambda: read_basket(record.pk))
        lines = [(line, name) for name in ("cart", "saved") for line in (getattr(snapshot, name) if snapshot else ())]
        offered = [
            (line.product_id, f"{display.as_plain_text(line.product_id)} ({LIST_NAMES[name]}, {line.count})") for line, name in lines
        ]
        self.fields["product"].widget.choices = offered
        self.fields["count"].max_value = conf.piece_limit()  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """Require a count for the cart, and limit it."""
        cleaned = super().clean() or self.cleaned_data
        count = cleaned.get("count")
        if cleaned.get("to") == "cart" and "count" not in self.errors and count is None:
            self.add_error("count", gettext("How many pieces?"))
        elif count is not None and count > conf.piece_limit():
            self.add_error("count", gettext("At most %(number)s pieces.") % {"number": conf.piece_limit()})
        return cleaned


class NewItemForm(RepairForm):
    """A product to add to the cart, and its count."""

    product = forms.CharField(max_length=255, strip=False, label=_("Product id"), help_text=_("Or a part of its name, to find the id."))
    count = forms.IntegerField(min_value=1, initial=1, label=_("Count"))

    def prepare(self, record: Basket) -> None:
        """Limit the count."""
        self.fields["count"].validators.append(
            MaxValueValidator(conf.piece_limit(), gettext("At most %(number)s pieces.") % {"number": conf.piece_limit()})
        )

    def clean_product(self) -> str:
        """Accept the id of a listed product. For any other text, name the products that it may mean."""
        text = str(self.cleaned_data["product"])
        if Product.objects.filter(pk=text, listed=True).exists():
            return text
        alike = Product.objects.filter(Q(name__icontains=text.strip()) | Q(pk__istartswith=text.strip()), listed=True)
        found = alike.order_by("pk").values_list("pk", "name")[:MAX_ALIKE]
        shown = [f"{display.as_plain_text(product_id)} ({display.as_plain_text(name)})" for product_id, name in found]
        if not shown:
            raise ValidationError(gettext("No listed product has this id."))
        raise ValidationError(gettext("No listed product has this id. It may be: %(products)s") % {"products": ", ".join(shown)})


class NoteForm(WrittenReasonForm):
    """The text of a note."""

    def prepare(self, record: Basket) -> None:
        """Name the text, and say who reads it."""
        self.fields["reason"].label = gettext("Note")
        self.fields["reason"].help_text = gettext("Other staff read it on the page of the basket, beside your name. No card numbers.")


class DaysForm(RepairForm):
    """A number of days."""

    days = forms.IntegerField(min_value=1, max_value=MAX_DAYS, label=_("Days"), help_text=_("Counted from now."))


class EraseForm(RepairForm):
    """Whether the user id means this user in other texts, too. Shown only if the id is ambiguous and such texts contain it."""

    means_user_elsewhere = forms.BooleanField(
        required=False,
        help_text=_("If it is not chosen, these texts stay: the user id may be a word, a name, a count, a ticket or a date."),
    )

    def prepare(self, record: Basket) -> None:
        """Show the texts; remove the question if there are none."""
        texts = erasure.texts_elsewhere(record, limit=erasure.MAX_SHOWN_TEXTS) if erasure.is_ambiguous(record.user_id) else []
        if not texts:
            del self.fields["means_user_elsewhere"]
            return
        field = self.fields["means_user_elsewhere"]
        field.label = gettext("The user id means this user in these texts too")
        shown = format_html_join("", "<li>{}</li>", [(display.visible(text),) for text in texts])
        most = ""
        if len(texts) >= erasure.MAX_SHOWN_TEXTS:
            most = gettext("At most %(number)s texts of each kind are shown. The choice is about all of them.") % {
                "number": erasure.MAX_SHOWN_TEXTS
            }
        field.help_text = format_html("{}<ul>{}</ul>{}", field.help_text, shown, most)

    @property
    def default_details(self) -> dict[str, Any] | None:
        """Preview with the texts left unchanged."""
        return {"means_user_elsewhere": False} if "means_user_elsewhere" in self.fields else {}
