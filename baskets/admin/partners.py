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
from django.utils.safestring import SafeString
from django.views.decorators.csrf import csrf_protect

from baskets.admin.api_keys import key_state
from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.readonly import ReadOnlyAdmin, Table
from baskets.admin.core.superuser_forms import NonceForm, ReasonForm, pop_form_nonce, renew_form_nonce, require_superuser, run_for_form
from baskets.domain import validation
from baskets.domain.access import api_keys, partners
from baskets.models import ApiKey, Partner

ORDERS_NEED_SERVER_KEY: dict[str, Any] = {
    "required": False,
    "label": "Only server keys may report an order",
    "help_text": (
        "Recommended where the partner has a back end: a client key can be stolen out of an app, and a stolen one then sells nothing."
    ),
}


class PartnerForm(forms.Form):
    """The properties of a new partner."""

    name = forms.CharField(max_length=partners.MAX_NAME_LENGTH, strip=False, help_text="Cannot be changed later.")
    late_orders = forms.ChoiceField(choices=Partner.LateOrders.choices, label="A late order whose stock is gone")
    hold_minutes = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=partners.MAX_HOLD_SECONDS // 60,
        help_text="How long a checkout holds its stock. Empty: the default of the service.",
    )
    orders_need_server_key = forms.BooleanField(**ORDERS_NEED_SERVER_KEY)


class KeyForm(NonceForm):
    """The properties of a new key."""

    kind = forms.ChoiceField(choices=ApiKey.Kind.choices)
    label = forms.CharField(max_length=validation.MAX_LABEL_LENGTH, required=False, help_text="What it is for.")
    days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=api_keys.MAX_KEY_LIFETIME.days,
        label="Days it is valid",
        help_text="Empty: until it is revoked.",
    )
    calls = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=api_keys.MAX_CALLS_PER_MINUTE,
        label="Calls a minute",
        help_text="Empty: the limit of the service. 0: no limit.",
    )


class OrdersForm(ReasonForm):
    """Which keys of a partner may report orders."""

    field_order = ("orders_need_server_key", "reason")
    orders_need_server_key = forms.BooleanField(**ORDERS_NEED_SERVER_KEY)


class OriginsForm(ReasonForm):
    """From which web pages a partner's keys may be used."""

    field_order = ("origins", "reason")
    origins = forms.CharField(
        max_length=partners.MAX_ORIGINS * (partners.MAX_ORIGIN_LENGTH + 1),
        required=False,
        widget=forms.Textarea,
        help_text="One in a line, as https://player.example.com. Empty: none.",
    )


@admin.register(Partner)
class PartnerAdmin(ReadOnlyAdmin[Partner]):
    """Partners by name."""

    list_display = ("name", "late_orders", "hold", "created")
    ordering = ("name",)
    search_fields = ("name__startswith",)
    search_help_text = "A partner's name, or the beginning of it."
    shown = ("name", "late_orders", "hold", "orders", "web_origins", "created")

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
            path("<path:object_id>/origins/", self.admin_site.admin_view(self.origins), name="baskets_partner_origins"),
            path("<path:object_id>/orders/", self.admin_site.admin_view(self.set_orders), name="baskets_partner_orders"),
        ]

    @method_decorator(csrf_protect)
    def create(self, request: HttpRequest) -> HttpResponse:
        """Create a partner."""
        require_superuser(request)
        form = PartnerForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            values = form.cleaned_data
            minutes = values["hold_minutes"]
            partner = run_for_form(
                form,
                partners.create_partner,
                name=values["name"],
                late_orders=values["late_orders"],
                hold_seconds=minutes * 60 if minutes else None,
                orders_need_server_key=values["orders_need_server_key"],
                actor=staff_actor(request),
            )
            if partner:
                messages.success(request, "The partner was created. It can call once it has a key.")
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[partner.pk]))
        return self.render(request, "admin/baskets/form.html", {"title": "Create a partner", "form": form, "submit": "Create partner"})

    @method_decorator(csrf_protect)
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Issue a key, and show its text in this response only."""
        require_superuser(request)
        partner = self.found(request, object_id)
        context = {"title": "Issue an API key", "name": display.visible(partner.name), "record": partner}
        form = KeyForm(request.POST or None)
        if request.method == "POST":
            if not pop_form_nonce(request):
                form.add_error(None, "This page was submitted before or is outdated. No key was issued.")
            elif form.is_valid() and (issued := self._issue(request, form, partner)):
                key, text = issued
                rows = [("Prefix", key.prefix), ("Kind", key.get_kind_display()), ("Label", display.visible(key.label))]
                return self.render(request, "admin/baskets/key_issued.html", context | {"key_text": text, "rows": rows})
        renew_form_nonce(request, form)
        return self.render(request, "admin/baskets/form.html", context | {"form": form, "submit": "Issue key"})

    @method_decorator(csrf_protect)
    def origins(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set the web origins from which the keys of the partner may be used."""
        require_superuser(request)
        partner = self.found(request, object_id)
        form = OriginsForm(request.POST or None, initial={"origins": "\n".join(partner.origins)})
        if request.method == "POST" and form.is_valid():
            actor = staff_actor(request)
            origins: list[str] = form.cleaned_data["origins"].split()
            reason = str(form.cleaned_data["reason"])
            if run_for_form(form, partners.allow_origins, partner_name=partner.name, origins=origins, reason=reason, actor=actor):
                messages.success(request, "The origins are set. They apply within seconds.")
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[quote(partner.pk)]))
        context = {"title": "Allow web origins", "name": display.visible(partner.name), "record": partner, "form": form}
        return self.render(request, "admin/baskets/form.html", context | {"submit": "Set origins"})

    @method_decorator(csrf_protect)
    def set_orders(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Decide which of the partner's keys may report orders."""
        require_superuser(request)
        partner = self.found(request, object_id)
        form = OrdersForm(request.POST or None, initial={"orders_need_server_key": partner.orders_need_server_key})
        if request.method == "POST" and form.is_valid():
            actor = staff_actor(request)
            values = {"required": form.cleaned_data["orders_need_server_key"], "reason": form.cleaned_data["reason"]}
            if run_for_form(form, partners.set_orders_need_server_key, partner_name=partner.name, actor=actor, **values):
                messages.success(request, "The setting is saved. It applies from the next call on.")
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[quote(partner.pk)]))
        context = {"title": "Keys that report orders", "name": display.visible(partner.name), "record": partner, "form": form}
        return self.render(request, "admin/baskets/form.html", context | {"submit": "Set"})

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

    def tables(self, request: HttpRequest, record: Partner) -> list[Table]:
        """The partner's keys."""
        keys = record.api_keys.annotate(ended=Q(expires_at__lte=Now())).order_by("-pk")[:100]
        return [
            Table(
                title="API keys",
                heads=("Prefix", "Kind", "Label", "State", "Created", "By", "Valid until"),
                rows=[
                    (
                        display.page("apikey", key.pk, key.prefix),
                        key.kind,
                        display.visible(key.label),
                        key_state(key),
                        display.moment(key.created_at),
                        display.visible(key.created_by),
                        display.moment(key.expires_at),
                    )
                    for key in keys
                ],
                nothing="None: this partner cannot call.",
            )
        ]

    def tools(self, request: HttpRequest, record: Partner) -> list[tuple[str, str]]:
        """Issue a key, allow web origins, or make a webhook."""
        if not request.user.is_superuser:
            return []
        return [
            (reverse("admin:baskets_partner_issue_key", args=[quote(record.pk)]), "Issue an API key"),
            (reverse("admin:baskets_partner_origins", args=[quote(record.pk)]), "Allow web origins"),
            (reverse("admin:baskets_partner_orders", args=[quote(record.pk)]), "Decide which keys report orders"),
            (reverse("admin:baskets_webhookendpoint_make", args=[record.pk]), "Make a webhook"),
        ]

    @admin.display(description="web origins")
    def web_origins(self, partner: Partner) -> SafeString | str:
        """From which web pages its keys may be used."""
        return display.visible(", ".join(partner.origins)) if partner.origins else "none"

    @admin.display(description="orders are reported by")
    def orders(self, partner: Partner) -> str:
        """Which of its keys may report orders."""
        return "server keys only" if partner.orders_need_server_key else "client keys too (a server-only setting is safer)"

    @admin.display(description="hold")
    def hold(self, partner: Partner) -> str:
        """How long its checkouts hold their stock."""
        return "default" if partner.hold_seconds is None else f"{display.count(partner.hold_seconds)} s"

    @admin.display(description="created")
    def created(self, partner: Partner) -> SafeString | str:
        """When it was created."""
        return display.moment(partner.created_at)
