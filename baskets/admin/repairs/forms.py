"""The forms of repairs: the reason, which every repair needs, and the details that some need."""

import io
import json
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator
from django.db.models import Model, Q
from django.utils.text import format_lazy
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core import display
from baskets.admin.core.late_stock import LateStock, late_stock, pieces
from baskets.db.errors import read_with_reconnect
from baskets.db.pipeline import Statement, execute
from baskets.domain.access import partners
from baskets.domain.events import webhook_endpoints
from baskets.domain.stock.catalog import MAX_PIECES
from baskets.domain.stock.count_file import read_counts
from baskets.domain.support import erasure
from baskets.domain.support.stock_repairs import MAX_COUNTED_PRODUCTS
from baskets.domain.validation import REASON_LIMIT
from baskets.models import Basket, CheckoutItem, CheckoutSession, Partner, Product, WebhookEndpoint
from baskets.models.basket_snapshot import read_basket

MAX_DAYS = 3650
LIST_NAMES = {"cart": _("cart"), "saved": _("saved")}
MAX_SHOWN_PROBLEMS = 20
DIGITS = re.compile(r"[0-9]{1,18}", re.ASCII)
DATABASE_TIME = Statement("database_time", "SELECT statement_timestamp()")
# Products that a form names where staff have entered a part of a name.
MAX_ALIKE = 5
# Texts that the page of an erasure shows.
MAX_SHOWN_TEXTS = 5
# The reason of a dry run, which is rolled back.
PREVIEW_REASON = "preview"


class RepairForm(forms.Form):
    """The reason, and the version of the record that the page has shown.

    :param record: the record to repair; None for many rows, each with its own version.
    """

    seen = forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**62)
    preset = forms.ChoiceField(required=False, label=_("Reason"))
    reason = forms.CharField(
        max_length=REASON_LIMIT,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text=_("Stays in the timeline, beside your name. No names of customers, no card numbers."),
    )
    field_order: Any = None
    is_reason_optional = False

    def __init__(self, *args: Any, record: Model | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if record is None:
            del self.fields["seen"]
        else:
            self.prepare(record)
        self._offer_reasons()
        self.order_fields([name for name in self.fields if name not in ("preset", "reason")])

    def prepare(self, record: Any) -> None:
        """Adapt the fields to the record."""

    def _offer_reasons(self) -> None:
        """Offer the reasons that the operator has set, beside a text."""
        if not (reasons := conf.repair_reasons()):
            del self.fields["preset"]
            return
        self.fields["preset"].choices = [("", gettext("In these words:")), *((reason, reason) for reason in reasons)]  # type: ignore[attr-defined]
        self.fields["reason"].required = False
        self.fields["reason"].label = gettext("Details")

    def clean_reason(self) -> str:
        """Join the chosen reason and the text. Require one of them, and only characters that can be read."""
        parts = (self.cleaned_data.get("preset", ""), str(self.cleaned_data["reason"]).strip())
        text = ": ".join(part for part in parts if part)
        if any(not (char.isprintable() or char in "\r\n\t") for char in text):
            raise ValidationError(gettext("The reason contains characters that cannot be printed."))
        if len(text) > REASON_LIMIT:
            raise ValidationError(gettext("At most %(number)s characters, with the chosen reason.") % {"number": REASON_LIMIT})
        if not text and not self.is_reason_optional:
            raise ValidationError(gettext("Choose a reason or write one."))
        return text

    @property
    def has_details(self) -> bool:
        """Return whether the form has more fields than the reason."""
        return bool(self.fields.keys() - RepairForm.base_fields.keys())

    @property
    def default_details(self) -> dict[str, Any] | None:
        """The details to preview before staff have entered any; None where the form has details without a default."""
        return None if self.has_details else {}

    @property
    def details(self) -> dict[str, Any]:
        """The cleaned values beside the reason."""
        return {name: value for name, value in self.cleaned_data.items() if name not in RepairForm.base_fields}

    @property
    def fingerprint(self) -> str:
        """The details as text: the values that are confirmed must be the values that were previewed."""
        return fingerprint(self.details)

    @property
    def notice(self) -> str:
        """A sentence above the form, for what staff must know before they decide; empty for none."""
        return ""


def fingerprint(details: dict[str, Any]) -> str:
    """Write details as text, so that two sets of them can be compared."""
    return json.dumps(details, sort_keys=True, default=str)


class AssignmentForm(RepairForm):
    """An optional comment: an assignment changes nothing but who works on a case."""

    is_reason_optional = True

    def _offer_reasons(self) -> None:
        """Offer no reasons: an assignment needs none."""
        del self.fields["preset"]
        self.fields["reason"].required = False
        self.fields["reason"].label = gettext("Comment")


class LateOrderForm(RepairForm):
    """Whether a late order may be short of pieces. Of one checkout, it is a question only where pieces are missing."""

    accept_short = forms.BooleanField(
        required=False,
        label=_("Order even if stock is short"),
        help_text=_("Pieces without stock are recorded as SHORT, and the checkout is flagged for them."),
    )
    stock: LateStock | None = None

    def prepare(self, record: CheckoutSession) -> None:
        """Compare the checkout with the stock of today."""
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


class CountForm(RepairForm):
    """When pieces were counted."""

    counted_at = forms.DateTimeField(required=False, label=_("Counted at"))
    opened_at = forms.DateTimeField(widget=forms.HiddenInput)

    def prepare(self, record: Any) -> None:
        """Read the database clock as the time of the count, and keep it until the count is confirmed."""
        if not self.is_bound:
            ((at,),) = execute(DATABASE_TIME, [])
            # With its offset, which a form field would drop: one hour occurs twice when summer time ends.
            self.fields["opened_at"].initial = at.isoformat()
        self.fields["counted_at"].help_text = gettext(
            "Empty: when this page was opened, %(opened)s. Otherwise as 2026-11-24 06:00, in the time zone of this page"
            " (%(zone)s). Sales after the count are subtracted, supplies after the count are added."
        ) % {"opened": self._opened(), "zone": get_current_timezone_name()}

    def _opened(self) -> str:
        """Write when the page was opened, in the time zone in which `counted_at` is read; a dash if the value is forged."""
        try:
            return display.clock(self.fields["opened_at"].clean(self["opened_at"].value()))
        except (ValidationError, OverflowError):
            return display.NOTHING

    def clean(self) -> dict[str, Any]:
        """Compute `as_of`, the time of the count."""
        cleaned = super().clean() or self.cleaned_data
        opened_at, counted_at = cleaned.pop("opened_at", None), cleaned.pop("counted_at", None)
        cleaned["as_of"] = counted_at or opened_at
        return cleaned


class UnsoldForm(CountForm):
    """The number of unsold pieces, and when they were counted."""

    unsold = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=MAX_PIECES,
        label=_("Unsold pieces"),
        help_text=_("All pieces that the shop has not sold yet, including those that checkouts hold."),
    )
    unlimited = forms.BooleanField(
        required=False, label=_("Unlimited"), help_text=_("The product has no limit: checkouts hold no stock of it.")
    )
    field_order = ("unsold", "unlimited", "counted_at", "opened_at")

    def clean(self) -> dict[str, Any]:
        """Accept either a number or "unlimited"."""
        cleaned = super().clean()
        if not self.errors and (cleaned.get("unsold") is None) != bool(cleaned.get("unlimited")):
            raise ValidationError(gettext("Enter a number, or choose unlimited; one of the two."))
        return cleaned


class StockTakeForm(CountForm):
    """The counted pieces of many products, pasted or as a file, and when they were counted.

    `details` has them as `counts`.
    """

    counts = forms.CharField(
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 12, "cols": 60, "spellcheck": "false"}),
        label=_("Counted pieces"),
        help_text=format_lazy(
            _(
                "A product id and a number on each line, with a comma, semicolon or tab between them; or with a header, as a spreadsheet"
                " copies it: product_id and counted. Count all unsold pieces, those that checkouts hold as well."
                " Rows without a number are left out. At most {number} products."
            ),
            number=MAX_COUNTED_PRODUCTS,
        ),
    )
    file = forms.FileField(
        required=False, label=_("Or a file"), help_text=_("CSV, such as the export of the products with a column counted.")
    )
    versions = forms.CharField(required=False, widget=forms.HiddenInput)
    field_order = ("counts", "file", "counted_at", "opened_at")
    uncounted = 0
    seen_adjustments: Mapping[str, int] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, record=None, **kwargs)
        self.prepare(None)

    def clean(self) -> dict[str, Any]:
        """Read the counts, and name each problem with its line. `seen_adjustments` has the versions that the page has shown, if any."""
        cleaned = super().clean()
        text, file, versions = cleaned.pop("counts", ""), cleaned.pop("file", None), cleaned.pop("versions", "")
        if bool(text.strip()) == bool(file):
            raise ValidationError(gettext("Paste the counts, or choose a file; one of the two."))
        found = read_counts(file or io.BytesIO(text.encode(errors="surrogatepass")), limit=MAX_COUNTED_PRODUCTS)
        if found.problem_count:
            more = found.problem_count - MAX_SHOWN_PROBLEMS
            lines = [
                gettext("Line %(line)s: %(problem)s.") % {"line": line, "problem": problem}
                for line, problem in found.problems[:MAX_SHOWN_PROBLEMS]
            ]
            raise ValidationError([*lines, *([gettext("And %(number)s more.") % {"number": more}] if more > 0 else [])])
        self.uncounted = found.uncounted
        words = str(versions).split()
        if len(words) == len(found.counts) and all(map(DIGITS.fullmatch, words)):
            self.seen_adjustments = dict(zip(found.counts, map(int, words), strict=True))
        return cleaned | {"counts": found.counts}


class SupplyForm(RepairForm):
    """Pieces that were added or removed."""

    pieces = forms.IntegerField(
        label=_("Pieces"), min_value=-MAX_PIECES, max_value=MAX_PIECES, help_text=_("5 for five pieces added, -5 for five pieces removed.")
    )


class ItemForm(RepairForm):
    """The new count and list of an item in the cart or the saved list."""

    # A product that the basket does not hold any more is refused by the domain, which can say what has happened.
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
        """Accept the id of a listed product; name those that may be meant by anything else."""
        text = str(self.cleaned_data["product"])
        if Product.objects.filter(pk=text, listed=True).exists():
            return text
        alike = Product.objects.filter(Q(name__icontains=text.strip()) | Q(pk__istartswith=text.strip()), listed=True)
        found = alike.order_by("pk").values_list("pk", "name")[:MAX_ALIKE]
        shown = [f"{display.as_plain_text(product_id)} ({display.as_plain_text(name)})" for product_id, name in found]
        if not shown:
            raise ValidationError(gettext("No listed product has this id."))
        raise ValidationError(gettext("No listed product has this id. It may be: %(products)s") % {"products": ", ".join(shown)})


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


class PartnerTermsForm(forms.Form):
    """The settings that a partner is created with."""

    late_orders = forms.ChoiceField(choices=Partner.LateOrders.choices, label=_("A late order whose stock is gone"))
    hold = forms.DurationField(
        label=_("Hold"),
        required=False,
        help_text=_("How long a checkout holds its stock, as hours:minutes:seconds, such as 0:15:00. Empty: the default of the service."),
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

    origins = forms.CharField(
        max_length=partners.MAX_ORIGINS * (partners.MAX_ORIGIN_LENGTH + 1),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "cols": 60}),
        label=_("Web origins"),
        help_text=_("Pages from which its keys may be used: one in a line, as https://player.example.com. Empty: none."),
    )
    field_order = ("late_orders", "hold", "orders_need_server_key", "origins")

    def prepare(self, record: Partner) -> None:
        """Fill in the settings of now."""
        self.fields["reason"].help_text = gettext("Stays in the journal, beside your name.")
        for name in ("late_orders", "orders_need_server_key"):
            self.fields[name].initial = getattr(record, name)
        self.fields["hold"].initial = None if record.hold_seconds is None else timedelta(seconds=record.hold_seconds)
        self.fields["origins"].initial = "\n".join(record.origins)

    def clean_origins(self) -> list[str]:
        """Return the origins, sorted."""
        return sorted(set(self.cleaned_data["origins"].split()))


class EraseForm(RepairForm):
    """Whether texts elsewhere mean the user. It is a question only of a user id of digits alone that other texts contain."""

    is_number_elsewhere = forms.BooleanField(
        required=False, help_text=_("If it is not chosen, these texts stay: the number may be a count, a ticket or a date.")
    )

    def prepare(self, record: Basket) -> None:
        """Ask if there is a text to ask about."""
        texts = erasure.texts_elsewhere(record, limit=MAX_SHOWN_TEXTS) if erasure.is_number(record.user_id) else []
        if not texts:
            del self.fields["is_number_elsewhere"]
            return
        shown = "; ".join(f"\u201c{display.as_plain_text(text)}\u201d" for text in texts[:MAX_SHOWN_TEXTS])
        self.fields["is_number_elsewhere"].label = gettext("%(number)s means this user elsewhere too: %(texts)s") % {
            "number": record.user_id,
            "texts": shown,
        }

    @property
    def default_details(self) -> dict[str, Any] | None:
        """Preview with the texts left unchanged."""
        return {"is_number_elsewhere": False} if "is_number_elsewhere" in self.fields else {}


class DaysForm(RepairForm):
    """A number of days."""

    days = forms.IntegerField(min_value=1, max_value=MAX_DAYS, label=_("Days"), help_text=_("Counted from now."))


class SkipEventForm(RepairForm):
    """One of the events that the receiver refuses."""

    position = forms.TypedChoiceField(coerce=int, label=_("Event"))

    def prepare(self, record: WebhookEndpoint) -> None:
        """Offer the refused events."""
        self.fields["position"].choices = [  # type: ignore[attr-defined]
            (entry.position, f"{display.as_plain_text(event.basket.user_id)}: {event.get_kind_display()}, {display.clock(event.at)}")
            for entry, event in ((entry, entry.event) for entry in webhook_endpoints.blocked_events(record))
        ]

    @property
    def default_details(self) -> dict[str, Any] | None:
        """Preview the first one."""
        choices = list(self.fields["position"].choices)  # type: ignore[attr-defined]
        return {"position": choices[0][0]} if choices else None


class ReplayForm(RepairForm):
    """The time of the first event to deliver again."""

    since = forms.DateTimeField(
        label=_("Since"), help_text=_("As 2026-11-24 06:00, in the time zone of this page. Events since then are delivered again.")
    )
