"""The forms of repairs of a webhook."""

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from baskets import conf
from baskets.admin.core import display
from baskets.admin.repairs.forms import RepairForm
from baskets.domain.events import webhook_control
from baskets.models import WebhookEndpoint


class WebhookForm(RepairForm):
    """The reason of a repair of a webhook."""

    has_timeline = False

    offered_reasons = staticmethod(conf.access_reasons)


class SkipEventForm(WebhookForm):
    """One of the events that the receiver refuses."""

    position = forms.TypedChoiceField(coerce=int, label=_("Event"))

    def prepare(self, record: WebhookEndpoint) -> None:
        """Offer the refused events."""
        self.fields["position"].choices = [  # type: ignore[attr-defined]
            (entry.position, f"{display.as_plain_text(event.basket.user_id)}: {event.get_kind_display()}, {display.clock(event.at)}")
            for entry, event in ((entry, entry.event) for entry in webhook_control.blocked_events(record))
        ]

    @property
    def default_details(self) -> dict[str, Any] | None:
        """Preview the first one."""
        choices = list(self.fields["position"].choices)  # type: ignore[attr-defined]
        return {"position": choices[0][0]} if choices else None


class ReplayForm(WebhookForm):
    """The time of the first event to deliver again."""

    since = forms.DateTimeField(
        label=_("Since"), help_text=_("As 2026-11-24 06:00, in the time zone of this page. Events since then are delivered again.")
    )
