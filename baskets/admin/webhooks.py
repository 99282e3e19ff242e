"""Webhooks: superusers create them, and repairs test, pause, resume and replay them, and skip what the receiver refuses."""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display, filters
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.columns import column
from baskets.admin.core.labels import value_text
from baskets.admin.core.languages import Text
from baskets.admin.core.readonly import Table
from baskets.admin.core.superuser_forms import NonceForm, pop_form_nonce, renew_form_nonce, require_superuser, run_for_form
from baskets.admin.repairs.admin import RepairAdmin
from baskets.admin.repairs.registry import WEBHOOK_REPAIRS
from baskets.domain import validation
from baskets.domain.events import webhook_attempts, webhook_control, webhook_endpoints
from baskets.models import Event, Partner, WebhookChange, WebhookEndpoint
from baskets.models.webhooks import is_failing
from baskets.net.outgoing_urls import MAX_URL_LENGTH

# On the page of a webhook.
MAX_ATTEMPTS = 20
STATES: dict[str, tuple[Text, Q]] = {
    "failing": (_("failing or given up"), is_failing()),
    **{value: (label, Q(state=value)) for value, label in WebhookEndpoint.State.choices},
}
TONES = {"active": "good", "paused": "plain", "dead": "bad", "deleted": "plain"}


def webhook_state(endpoint: Any) -> SafeString:
    """Show whether a webhook receives events; of an active one that fails, since when.

    :param endpoint: a row of `WebhookEndpoint.objects.with_refused()`.
    """
    if endpoint.is_failing:
        return format_html(gettext("{} since {}"), display.badge(gettext("failing"), "bad"), display.moment(endpoint.failing_since))
    if endpoint.state == WebhookEndpoint.State.ACTIVE and endpoint.refused:
        return display.badge(
            ngettext("%(number)s event refused", "%(number)s events refused", endpoint.refused)
            % {"number": display.count(endpoint.refused)},
            "bad",
        )
    return display.badge(endpoint.get_state_display(), TONES[endpoint.state])


class WebhookForm(NonceForm):
    """The properties of a new webhook."""

    url = forms.CharField(max_length=MAX_URL_LENGTH, label=_("Address"), help_text=_("Begins with https://; events are posted there."))
    label = forms.CharField(max_length=validation.MAX_LABEL_LENGTH, required=False, label=_("Label"), help_text=_("What it is for."))
    kinds = forms.MultipleChoiceField(
        choices=Event.Kind.choices, required=False, label=_("Kinds of events"), help_text=_("None chosen: all of them.")
    )
    from_the_beginning = forms.BooleanField(
        required=False, label=_("From the beginning"), help_text=_("Begin with the oldest event there is, not with the next.")
    )


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(RepairAdmin):
    """Webhook endpoints. A secret is shown once, when the webhook is created."""

    list_display = ("number", "partner_name", "address", "label_shown", "state_shown", "delivered", "next_try", "problem_shown")
    list_select_related = ("partner",)
    list_filter = (
        filters.of_partner("partner"),
        filters.choices(_("state"), "state", STATES),
    )
    ordering = ("-pk",)
    shown = (
        *("number", "partner_name", "address", "label_shown", "kinds_shown", "state_shown", "delivered", "failures", "failing_since"),
        *("next_try", "problem_shown", "created_at"),
    )
    repairs = WEBHOOK_REPAIRS

    def get_queryset(self, request: HttpRequest) -> Any:
        """Leave out the secrets, and count the refused events."""
        return WebhookEndpoint.objects.with_refused().defer("secret", "previous_secret").order_by(*self.ordering)

    def label(self, record: WebhookEndpoint) -> object:
        """Its address."""
        return record.url

    def more_urls(self) -> list[URLPattern]:
        """Make one for a partner."""
        view = self.admin_site.admin_view(self.make)
        return [path("make/<int:partner_id>/", view, name="baskets_webhookendpoint_make"), *super().more_urls()]

    @method_decorator(csrf_protect)
    def make(self, request: HttpRequest, partner_id: int) -> HttpResponse:
        """Create a webhook, and show its secret in this response only."""
        require_superuser(request)
        partner = Partner.objects.filter(pk=partner_id).first()
        if partner is None:
            raise Http404
        context: dict[str, Any] = {"title": gettext("Make a webhook"), "name": display.visible(partner.name)}
        context |= {"record": partner, "opts": Partner._meta}  # noqa: SLF001 (Django's own name)
        form = WebhookForm(request.POST or None)
        if request.method == "POST":
            if not pop_form_nonce(request):
                form.add_error(None, gettext("This page was submitted before or is outdated. No webhook was created."))
            elif form.is_valid() and (made := self._made(request, form, partner)):
                endpoint, text = made
                rows = [(gettext("Number"), endpoint.pk), (gettext("Address"), display.visible(endpoint.url))]
                return self.render(request, "admin/baskets/webhook_made.html", context | {"secret": text, "rows": rows})
        renew_form_nonce(request, form)
        return self.render(request, "admin/baskets/form.html", context | {"form": form, "submit": gettext("Make webhook")})

    def _made(self, request: HttpRequest, form: WebhookForm, partner: Partner) -> tuple[WebhookEndpoint, str] | None:
        values = form.cleaned_data
        return run_for_form(
            form,
            lambda: webhook_endpoints.create_webhook(
                partner_name=partner.name,
                url=values["url"],
                kinds=values["kinds"],
                label=values["label"],
                from_the_beginning=values["from_the_beginning"],
                actor=staff_actor(request),
            ),
        )

    def tables(self, request: HttpRequest, record: WebhookEndpoint) -> list[Table]:
        """The events that the receiver refuses, the latest attempts, and the changes."""
        problems = dict(record.blocked_baskets.filter(failures__gt=0).values_list("position", "problem"))
        refused = webhook_control.blocked_events(record)
        attempts = webhook_attempts.latest_attempts(endpoint_id=record.pk, limit=MAX_ATTEMPTS)
        changes = WebhookChange.objects.filter(endpoint=record).order_by("-pk")[:100]
        return [
            Table(
                title=gettext("Events that the receiver refuses"),
                heads=(gettext("Event"), gettext("Of"), gettext("Happened"), gettext("How it was refused")),
                rows=[
                    (
                        display.page("event", entry.event_id, entry.event.get_kind_display()),
                        display.basket(entry.event.basket_id, entry.event.basket.user_id),
                        display.moment(entry.event.at),
                        display.visible(problems.get(entry.position, record.problem)),
                    )
                    for entry in refused
                ],
            ),
            Table(
                title=gettext("Latest attempts"),
                heads=(gettext("Ended"), gettext("Event"), gettext("Outcome"), gettext("Status"), gettext("Took")),
                rows=[
                    (
                        display.moment(attempt.ended_at),
                        gettext("test event")
                        if attempt.position is None
                        else gettext("no. %(number)s") % {"number": display.count(attempt.position)},
                        display.badge(gettext("acknowledged"), "good") if attempt.acknowledged else display.visible(attempt.problem),
                        attempt.status or display.NOTHING,
                        f"{attempt.duration / timedelta(milliseconds=1):.0f} ms",
                    )
                    for attempt in attempts
                ],
                nothing=gettext("None yet."),
            ),
            Table(
                title=gettext("What was done to it"),
                heads=(gettext("When"), gettext("What"), gettext("By"), gettext("Why"), gettext("It stood at")),
                rows=[
                    (
                        display.moment(change.created_at),
                        change.get_kind_display(),
                        display.actor_name(change.actor),
                        display.visible(change.reason),
                        display.count(change.position),
                    )
                    for change in changes
                ],
            ),
        ]

    number = column(_("webhook"), "pk", str)
    partner_name = column(_("partner"), "partner", display.partner)
    address = column(_("address"), "url", display.visible, limit=200)
    label_shown = column(_("label"), "label", display.visible)

    @admin.display(description=_("kinds"))
    def kinds_shown(self, endpoint: WebhookEndpoint) -> str:
        """Which kinds of events it receives."""
        return ", ".join(value_text("kinds", endpoint.kinds)) or gettext("all")

    state_shown = column(_("state"), None, webhook_state)
    delivered = column(_("last delivery"), "delivered_at", display.moment)

    @admin.display(description=_("next try not before"))
    def next_try(self, endpoint: WebhookEndpoint) -> SafeString | str:
        """When delivery goes on after a failure, and after the pause that the receiver requested."""
        waits = endpoint.state == WebhookEndpoint.State.ACTIVE and endpoint.next_try_at
        return display.moment(endpoint.next_try_at) if waits else display.NOTHING

    problem_shown = column(_("how the last try failed"), "problem", display.visible)
