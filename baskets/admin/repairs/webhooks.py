"""The repairs of webhooks."""

from typing import ClassVar

from django.utils.translation import gettext_lazy as _

from baskets.admin.repairs import snapshots
from baskets.admin.repairs.definitions import KnownFacts, Repair, RepairCall
from baskets.admin.repairs.forms import RepairForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.admin.repairs.webhook_forms import ReplayForm, SkipEventForm, WebhookForm
from baskets.domain.events import webhook_changes, webhook_control, webhook_endpoints
from baskets.models import WebhookEndpoint

STATE = WebhookEndpoint.State


class WebhookRepair(Repair[WebhookEndpoint]):
    """A repair of a webhook."""

    form_class: ClassVar[type[RepairForm]] = WebhookForm

    def snapshot(self, record: WebhookEndpoint) -> Snapshot:
        return snapshots.of_webhook(record)

    def version(self, record: WebhookEndpoint) -> int:
        return webhook_changes.count_changes(record)

    def version_scope(self, record: WebhookEndpoint) -> object:
        return record.pk

    def label(self, record: WebhookEndpoint) -> str:
        return record.url


class PauseWebhook(WebhookRepair):
    """Pauses the delivery."""

    slug = "pause"
    title = _("Pause the webhook")
    done = _("The webhook is paused.")
    description = _("No event is delivered until the webhook is resumed. Events wait until then.")

    def is_available(self, record: WebhookEndpoint, known: KnownFacts) -> bool:
        return record.state == STATE.ACTIVE

    def execute(self, record: WebhookEndpoint, call: RepairCall) -> None:
        webhook_control.pause(endpoint=record, expected_changes=call.expected_version, reason=call.reason, actor=call.actor)


class ResumeWebhook(WebhookRepair):
    """Resumes the delivery."""

    slug = "resume"
    title = _("Resume the webhook")
    done = _("The webhook delivers again.")
    description = _(
        "Delivery continues at once from its position: after a pause, after it was stopped for failures, or before its next try is due."
    )

    def is_available(self, record: WebhookEndpoint, known: KnownFacts) -> bool:
        return record.is_resumable

    def execute(self, record: WebhookEndpoint, call: RepairCall) -> None:
        webhook_control.resume(endpoint=record, expected_changes=call.expected_version, reason=call.reason, actor=call.actor)


class ReplayWebhook(WebhookRepair):
    """Delivers events again."""

    slug = "replay"
    title = _("Deliver again")
    done = _("The events are delivered again.")
    description = _("All events since a time are delivered again, each with the same event id.")
    form_class = ReplayForm

    def is_available(self, record: WebhookEndpoint, known: KnownFacts) -> bool:
        return record.state != STATE.DELETED

    def execute(self, record: WebhookEndpoint, call: RepairCall) -> None:
        webhook_control.replay(
            endpoint=record, since=call.cleaned["since"], expected_changes=call.expected_version, reason=call.reason, actor=call.actor
        )


class SkipEvent(WebhookRepair):
    """Skips an event that the receiver refuses."""

    slug = "skip-event"
    title = _("Skip a refused event")
    done = _("The event was skipped.")
    description = _(
        "The receiver never gets this event, unless it is replayed, and the events that wait for it are delivered. Skip one only"
        " if the partner cannot take it: its records differ from ours afterwards."
    )
    form_class = SkipEventForm

    def is_available(self, record: WebhookEndpoint, known: KnownFacts) -> bool:
        return bool(webhook_control.blocked_events(record, limit=1))

    def execute(self, record: WebhookEndpoint, call: RepairCall) -> None:
        webhook_control.skip_event(
            endpoint=record,
            position=call.cleaned["position"],
            expected_changes=call.expected_version,
            reason=call.reason,
            actor=call.actor,
        )


class SendTest(WebhookRepair):
    """Requests a test event."""

    slug = "send-test"
    title = _("Send a test event")
    done = _("A test event is sent within seconds.")
    description = _(
        "A deliverer sends a signed test event within seconds, also if the webhook is paused. The page of the webhook shows its outcome."
    )

    def is_available(self, record: WebhookEndpoint, known: KnownFacts) -> bool:
        return record.state != STATE.DELETED

    def execute(self, record: WebhookEndpoint, call: RepairCall) -> None:
        webhook_endpoints.request_test(endpoint=record, reason=call.reason, actor=call.actor)


WEBHOOK_REPAIRS: tuple[Repair[WebhookEndpoint], ...] = (SendTest(), PauseWebhook(), ResumeWebhook(), ReplayWebhook(), SkipEvent())
