"""Partners in the admin. Superusers create partners, change their settings, and issue keys for them.

Every change is a page with one POST, and the domain makes it. The text of a key is in the response to that POST and nowhere
else: not in a message, not in the session, not in a log.
"""

from datetime import timedelta
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin.api_keys import key_state
from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.columns import column
from baskets.admin.core.limits import LimitField
from baskets.admin.core.readonly import Table
from baskets.admin.core.superuser_forms import NonceForm, pop_form_nonce, renew_form_nonce, require_superuser, run_for_form
from baskets.admin.repairs.admin import RepairAdmin
from baskets.admin.repairs.partner_forms import PartnerTermsForm
from baskets.admin.repairs.registry import PARTNER_REPAIRS
from baskets.admin.repairs.snapshots import partner_settings, share_of
from baskets.admin.webhooks import webhook_state
from baskets.domain import validation
from baskets.domain.access import api_keys, partners
from baskets.domain.support import sandboxes
from baskets.models import ApiKey, Partner

# Of each table on the page of a partner.
MAX_ROWS = 100


class PartnerForm(PartnerTermsForm):
    """The properties of a new partner."""

    name = forms.CharField(max_length=partners.MAX_NAME_LENGTH, strip=False, label=_("Name"), help_text=_("Cannot be changed later."))
    field_order = ("name",)


class KeyForm(NonceForm):
    """The properties of a new key."""

    kind = forms.ChoiceField(choices=ApiKey.Kind.choices, label=_("Kind"))
    label = forms.CharField(max_length=validation.MAX_LABEL_LENGTH, required=False, label=_("Label"), help_text=_("What it is for."))
    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=api_keys.MAX_KEY_LIFETIME.days,
        label=_("Days it is valid"),
        help_text=_("Empty: until it is revoked."),
    )
    calls = LimitField(max_value=api_keys.MAX_CALLS_PER_MINUTE, label=_("Calls a minute"), help_text=_("Empty: the limit of the service."))


@admin.register(Partner)
class PartnerAdmin(RepairAdmin):
    """Partners by name."""

    repairs = PARTNER_REPAIRS
    has_list_actions = False

    list_display = ("name", "late_orders", "hold", "share", "reported_by", "created")
    list_select_related = ("sandbox_of", "sandbox")
    ordering = ("name",)
    search_fields = ("name__startswith",)
    search_help_text = _("A partner's name, or the beginning of it.")
    shown = ("sells", "created")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers add partners, on a separate page."""
        return bool(request.user.is_active and request.user.is_superuser)

    def more_urls(self) -> list[URLPattern]:
        """Create a partner; issue a key for one."""
        return [
            path("add/", self.admin_site.admin_view(self.create), name="baskets_partner_add"),
            path(
                "<path:object_id>/issue-key/",
                self.admin_site.admin_view(self.issue_key),
                name="baskets_partner_issue_key",
            ),
            path("<path:object_id>/sandbox/", self.admin_site.admin_view(self.open_sandbox), name="baskets_partner_sandbox"),
            *super().more_urls(),
        ]

    @method_decorator(csrf_protect)
    def create(self, request: HttpRequest) -> HttpResponse:
        """Create a partner."""
        require_superuser(request)
        form = PartnerForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            values = form.cleaned_data
            partner = run_for_form(
                form,
                partners.create_partner,
                name=values["name"],
                late_orders=values["late_orders"],
                hold_seconds=values["hold"],
                share_percent=values["share_percent"],
                orders_need_server_key=values["orders_need_server_key"],
                actor=staff_actor(request),
            )
            if partner:
                messages.success(request, gettext("The partner was created. It can call once it has a key."))
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[partner.pk]))
        return self.render(
            request, "admin/baskets/form.html", {"title": gettext("Create a partner"), "form": form, "submit": gettext("Create partner")}
        )

    @method_decorator(csrf_protect)
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Issue a key, and show its text in this response only."""
        require_superuser(request)
        partner = self.found(request, object_id)
        context = {"title": gettext("Issue an API key"), "name": display.visible(partner.name), "record": partner}
        form = KeyForm(request.POST or None)
        if request.method == "POST":
            if not pop_form_nonce(request):
                form.add_error(None, gettext("This page was submitted before or is outdated. No key was issued."))
            elif form.is_valid() and (issued := self._issue(request, form, partner)):
                key, text = issued
                rows = [
                    (gettext("Prefix"), key.prefix),
                    (gettext("Kind"), key.get_kind_display()),
                    (gettext("Label"), display.visible(key.label)),
                ]
                return self.render(request, "admin/baskets/key_issued.html", context | {"key_text": text, "rows": rows})
        renew_form_nonce(request, form)
        return self.render(request, "admin/baskets/form.html", context | {"form": form, "submit": gettext("Issue key")})

    @method_decorator(csrf_protect)
    def open_sandbox(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Open the sandbox of the partner: create it if there is none, and show its page, where test keys are issued."""
        require_superuser(request)
        partner = self.found(request, object_id)
        form = forms.Form(request.POST or None)
        if request.method == "POST" and form.is_valid():
            actor = staff_actor(request)
            if sandbox := run_for_form(form, sandboxes.open_sandbox, partner_name=partner.name, actor=actor):
                messages.success(request, gettext("The sandbox is open. A key that is issued here is a test key."))
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[quote(sandbox.pk)]))
        context = {"title": gettext("Create the sandbox"), "name": display.visible(partner.name), "record": partner, "form": form}
        context["explanation"] = gettext(
            "A partner for tests, with separate baskets, keys and products. It touches no stock and sells nothing."
        )
        return self.render(request, "admin/baskets/form.html", context | {"submit": gettext("Create the sandbox")})

    def _issue(self, request: HttpRequest, form: KeyForm, partner: Partner) -> tuple[ApiKey, str] | None:
        values = form.cleaned_data
        return run_for_form(
            form,
            api_keys.issue_api_key,
            partner_name=partner.name,
            kind=values["kind"],
            label=values["label"],
            expires_in=timedelta(days=values["days"]) if values["days"] else None,
            calls_per_minute=values["calls"],
            actor=staff_actor(request),
        )

    def page_context(self, request: HttpRequest, record: Partner) -> dict[str, Any]:
        """Show the settings with the words of the page that changes them."""
        context = super().page_context(request, record)
        return context | {"rows": [*partner_settings(record).items(), *context["rows"]]}

    def label(self, record: Partner) -> object:
        """Its name."""
        return record.name

    def tables(self, request: HttpRequest, record: Partner) -> list[Table]:
        """The partner's keys, token issuers and webhooks, as far as the user may see them."""
        made = {"apikey": _keys, "tokenissuer": _issuers, "webhookendpoint": _webhooks}
        return [table(record) for name, table in made.items() if request.user.has_perm(f"baskets.view_{name}")]

    def tools(self, request: HttpRequest, record: Partner) -> list[tuple[str, str]]:
        """Issue a key, change the settings, add an issuer or make a webhook."""
        links = super().tools(request, record)
        if not request.user.is_superuser:
            return links
        if sandbox := getattr(record, "sandbox", None):
            tests = (reverse("admin:baskets_partner_change", args=[quote(sandbox.pk)]), gettext("Go to the sandbox"))
        else:
            tests = (reverse("admin:baskets_partner_sandbox", args=[quote(record.pk)]), gettext("Create the sandbox"))
        return [
            (reverse("admin:baskets_partner_issue_key", args=[quote(record.pk)]), gettext("Issue an API key")),
            *links,
            (f"{reverse('admin:baskets_tokenissuer_add')}?{urlencode({'partner': record.pk})}", gettext("Add a token issuer")),
            (reverse("admin:baskets_webhookendpoint_make", args=[record.pk]), gettext("Make a webhook")),
            *([] if record.is_sandbox else [tests]),
        ]

    @admin.display(description=_("sells"))
    def sells(self, partner: Partner) -> SafeString | str:
        """Whether its orders are sales, or tests."""
        if partner.sandbox_of is None:
            return gettext("yes")
        live = display.partner(partner.sandbox_of)
        return format_html(gettext("no: the sandbox of {}"), live)

    @admin.display(description=_("hold"))
    def hold(self, partner: Partner) -> str:
        """How long its checkouts hold their stock."""
        return gettext("default") if partner.hold_seconds is None else display.duration(timedelta(seconds=partner.hold_seconds))

    share = column(_("share of a product"), None, share_of)

    @admin.display(description=_("orders are reported by"))
    def reported_by(self, partner: Partner) -> str:
        """Which of its keys may report an order."""
        return gettext("server keys only") if partner.orders_need_server_key else gettext("client keys too")

    created = column(_("created"), "created_at", display.moment)


def _keys(partner: Partner) -> Table:
    keys = partner.api_keys.annotate(ended=Q(expires_at__lte=Now())).order_by("-pk")[:MAX_ROWS]
    return Table(
        title=gettext("API keys"),
        heads=(
            gettext("Prefix"),
            gettext("Kind"),
            gettext("Label"),
            gettext("State"),
            gettext("Created"),
            gettext("By"),
            gettext("Valid until"),
        ),
        rows=[
            (
                display.page("apikey", key.pk, key.prefix),
                key.kind,
                display.visible(key.label),
                key_state(key),
                display.moment(key.created_at),
                display.actor_name(key.created_by),
                display.moment(key.expires_at) if key.expires_at else gettext("no end"),
            )
            for key in keys
        ],
        nothing=gettext("None: this partner cannot call."),
    )


def _issuers(partner: Partner) -> Table:
    return Table(
        title=gettext("Token issuers"),
        heads=(gettext("Name"), "iss", "aud", gettext("Keys from"), gettext("Fetched"), gettext("Problem of the last fetch")),
        rows=[
            (
                display.page("tokenissuer", issuer.pk, display.visible(issuer.name)),
                display.visible(issuer.issuer) if issuer.issuer else "any",
                display.visible(issuer.audience) if issuer.audience else "any",
                display.visible(issuer.keys_url, limit=80) if issuer.keys_url else gettext("stored here"),
                display.moment(issuer.fetched_at),
                display.visible(issuer.fetch_problem, limit=200),
            )
            for issuer in partner.issuers.order_by("name")[:MAX_ROWS]
        ],
        nothing=gettext("None: only guests have tokens."),
    )


def _webhooks(partner: Partner) -> Table:
    return Table(
        title=gettext("Webhooks"),
        heads=(gettext("Webhook"), gettext("Address"), gettext("State"), gettext("Last delivery"), gettext("How the last try failed")),
        rows=[
            (
                display.page(
                    "webhookendpoint",
                    endpoint.pk,
                    display.visible(endpoint.label) if endpoint.label else gettext("no. %(number)s") % {"number": endpoint.pk},
                ),
                display.visible(endpoint.url, limit=80),
                webhook_state(endpoint),
                display.moment(endpoint.delivered_at),
                display.visible(endpoint.problem),
            )
            for endpoint in partner.webhooks.defer("secret", "previous_secret").with_refused().order_by("-pk")[:MAX_ROWS]
        ],
    )
