"""The reason of a change: words of the user, beside the reasons that the operator has set."""

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.domain.validation import REASON_LIMIT


class ReasonForm(forms.Form):
    """A form that asks why. The journal keeps the reason, and the timeline of a basket too."""

    preset = forms.ChoiceField(required=False, label=_("Reason"))
    reason = forms.CharField(
        label=_("Reason"),
        max_length=REASON_LIMIT,
        widget=forms.Textarea(attrs={"rows": 2, "cols": 60}),
        help_text=_("Stays in the journal, beside your name."),
    )
    field_order: Any = None
    is_reason_optional = False
    # The reasons that the operator has set for what the form changes. Here: partners, keys, issuers and webhooks.
    offered_reasons: ClassVar["staticmethod[[], list[str]]"] = staticmethod(conf.access_reasons)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer_reasons()
        # The text is cleaned after the choice that it follows.
        self.order_fields([*(name for name in self.fields if name not in ("preset", "reason")), "preset", "reason"])

    def offer_reasons(self) -> None:
        """Offer the reasons that the operator has set, beside a text."""
        if not (reasons := self.offered_reasons()):
            del self.fields["preset"]
            return
        self.fields["preset"].choices = [("", gettext("Other:")), *((reason, reason) for reason in reasons)]  # type: ignore[attr-defined]
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
