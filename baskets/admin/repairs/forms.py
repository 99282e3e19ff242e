"""What the forms of all repairs share: the reason, the version of the record, and details to preview."""

import json
from typing import Any

from django import forms
from django.db.models import Model
from django.utils.translation import gettext

from baskets import conf
from baskets.admin.core.reasons import ReasonForm

# The reason of a dry run, which is rolled back.
PREVIEW_REASON = "preview"


class RepairForm(ReasonForm):
    """The reason, and the version of the record that the page has shown.

    :param record: the record to repair; None for many rows, each with its own version.
    """

    # Whether the record has a timeline; the reason of any other is in the journal.
    has_timeline = True
    seen = forms.IntegerField(widget=forms.HiddenInput, min_value=0, max_value=2**62)

    def __init__(self, *args: Any, record: Model | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.has_timeline:
            self.fields["reason"].help_text = gettext("Stays in the timeline, beside your name. No names of customers, no card numbers.")
        if record is None:
            del self.fields["seen"]
        else:
            self.prepare(record)

    offered_reasons = staticmethod(conf.basket_reasons)

    def prepare(self, record: Any) -> None:
        """Adapt the fields to the record."""

    @property
    def has_details(self) -> bool:
        """Return whether the form has more fields than the reason."""
        return bool(self.fields.keys() - RepairForm.base_fields.keys())

    @property
    def shows_details(self) -> bool:
        """Return whether staff see any of these fields."""
        return any(not field.is_hidden for field in self if field.name not in RepairForm.base_fields)

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


class OrderReasonForm(RepairForm):
    """A reason why a checkout is an order or not, which depends on the payment."""

    offered_reasons = staticmethod(conf.repair_reasons)


class WrittenReasonForm(RepairForm):
    """A text in the words of staff alone."""

    def offer_reasons(self) -> None:
        """Offer no reasons."""
        del self.fields["preset"]


class AssignmentForm(WrittenReasonForm):
    """An optional comment: an assignment changes nothing but who works on a case."""

    is_reason_optional = True

    def offer_reasons(self) -> None:
        """Offer no reasons: an assignment needs none."""
        super().offer_reasons()
        self.fields["reason"].required = False
        self.fields["reason"].label = gettext("Comment")
