"""Partners and their API keys at the desk. Superusers create partners, and issue and revoke keys.

Every change is a page of its own with one POST, and the domain does it. The text of a key is on the answer to that POST
and nowhere else: not in a message, not in the session, not in a log.
"""

import secrets
from collections.abc import Callable
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display, filters
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.readonly import ReadOnlyAdmin, Table
from baskets.domain import runner, validation
from baskets.domain.access import api_keys, partners
from baskets.domain.errors import Refusal
from baskets.models import ApiKey, Partner

P = ParamSpec("P")
T = TypeVar("T")

FORM_NONCE = "baskets_key_form"


ORDERS_NEED_SERVER_KEY: dict[str, Any] = {
    "required": False,
    "label": "Only server keys may report an order",
    "help_text": (
        "Recommended where the partner has a back end: a client key can be stolen out of an app, and a stolen one then sells nothing."
    ),
}


class PartnerForm(forms.Form):
    """What is said about a new partner."""

    name = forms.CharField(max_length=partners.MAX_NAME_LENGTH, strip=False, help_text="Given once, and never changed.")
    late_orders = forms.ChoiceField(choices=Partner.LateOrders.choices, label="A late order whose stock is gone")
    hold_minutes = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=partners.MAX_HOLD_SECONDS // 60,
        help_text="How long a checkout holds its stock. Empty: the default of the service.",
    )
    orders_need_server_key = forms.BooleanField(**ORDERS_NEED_SERVER_KEY)


class OrdersForm(forms.Form):
    """Which keys of a partner may report orders."""

    orders_need_server_key = forms.BooleanField(**ORDERS_NEED_SERVER_KEY)


class OriginsForm(forms.Form):
    """From which web pages a partner's keys may be used."""

    origins = forms.CharField(
        max_length=partners.MAX_ORIGINS * (partners.MAX_ORIGIN_LENGTH + 1),
        required=False,
        widget=forms.Textarea,
        help_text="One in a line, as https://player.example.com. Empty: none.",
    )


class KeyForm(forms.Form):
    """What is said about a new key."""

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
    # Known to one session and taken away by the first POST: a page sent again issues no second key.
    once = forms.CharField(widget=forms.HiddenInput, max_length=64)


class LimitForm(forms.Form):
    """How often a key may call."""

    calls = forms.IntegerField(
        required=False,
        min_value=0,
        max_value=api_keys.MAX_CALLS_PER_MINUTE,
        label="Calls a minute",
        help_text="Empty: the limit of the service. 0: no limit.",
    )


def require_superuser(request: HttpRequest) -> None:
    """Let superusers pass.

    :raises PermissionDenied: it is somebody else.
    """
    if not (request.user.is_active and request.user.is_superuser):
        raise PermissionDenied


@admin.register(Partner)
class PartnerAdmin(ReadOnlyAdmin[Partner]):
    """Partners by name."""

    list_display = ("name", "late_orders", "hold", "created")
    ordering = ("name",)
    search_fields = ("name__startswith",)
    search_help_text = "A partner's name, or the beginning of it."
    shown = ("name", "late_orders", "hold", "orders", "web_origins", "created")

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers add partners, on a page of their own."""
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
            said = form.cleaned_data
            minutes = said["hold_minutes"]
            partner = run_for_form(
                form,
                partners.create_partner,
                name=said["name"],
                late_orders=said["late_orders"],
                hold_seconds=minutes * 60 if minutes else None,
                orders_need_server_key=said["orders_need_server_key"],
            )
            if partner:
                messages.success(request, "The partner was created. It can call once it has a key.")
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[partner.pk]))
        return self.render(request, "admin/baskets/form.html", {"title": "Create a partner", "form": form, "submit": "Create partner"})

    @method_decorator(csrf_protect)
    def issue_key(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Issue a key, and show its text on this one answer."""
        require_superuser(request)
        partner = self.found(request, object_id)
        context = {"title": "Issue an API key", "name": display.visible(partner.name), "record": partner}
        form = KeyForm(request.POST or None)
        if request.method == "POST":
            fresh = secrets.compare_digest(request.POST.get("once", "").encode(), pop_form_nonce(request).encode())
            if not fresh:
                form.add_error(None, "This page was sent before, or is an old one: no key was issued this time.")
            elif form.is_valid() and (issued := self._issue(request, form, partner)):
                key, text = issued
                rows = [("Prefix", key.prefix), ("Kind", key.get_kind_display()), ("Label", display.visible(key.label))]
                return self.render(request, "admin/baskets/key_issued.html", context | {"key_text": text, "rows": rows})
        # What was typed is kept, what makes the page good for one POST is renewed.
        request.session[FORM_NONCE] = once = secrets.token_urlsafe(24)
        form.initial["once"] = once
        if form.is_bound:
            form.data = typed = request.POST.copy()
            typed["once"] = once
        return self.render(request, "admin/baskets/form.html", context | {"form": form, "submit": "Issue key"})

    @method_decorator(csrf_protect)
    def origins(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say from which web pages the partner's keys may be used."""
        require_superuser(request)
        partner = self.found(request, object_id)
        form = OriginsForm(request.POST or None, initial={"origins": "\n".join(partner.origins)})
        if request.method == "POST" and form.is_valid():
            actor = staff_actor(request)
            origins: list[str] = form.cleaned_data["origins"].split()
            if run_for_form(form, partners.allow_origins, partner_name=partner.name, origins=origins, actor=actor):
                messages.success(request, "The origins are set: they hold within seconds.")
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
            required: bool = form.cleaned_data["orders_need_server_key"]
            set_required = partners.set_orders_need_server_key
            if run_for_form(form, set_required, partner_name=partner.name, required=required, actor=actor):
                messages.success(request, "It is set: it holds from the next call on.")
                return HttpResponseRedirect(reverse("admin:baskets_partner_change", args=[quote(partner.pk)]))
        context = {"title": "Keys that report orders", "name": display.visible(partner.name), "record": partner, "form": form}
        return self.render(request, "admin/baskets/form.html", context | {"submit": "Set"})

    def _issue(self, request: HttpRequest, form: KeyForm, partner: Partner) -> tuple[ApiKey, str] | None:
        said = form.cleaned_data
        return run_for_form(
            form,
            lambda: api_keys.issue_api_key(
                partner_name=partner.name,
                kind=said["kind"],
                label=said["label"],
                expires_in=timedelta(days=said["days"]) if said["days"] else None,
                calls_per_minute=said["calls"],
                created_by=staff_actor(request).name,
            ),
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
        return display.visible(", ".join(partner.origins)) if partner.origins else "none of its own"

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


def pop_form_nonce(request: HttpRequest) -> str:
    """Take away what makes a page good for one POST; what is left fits no page."""
    return str(request.session.pop(FORM_NONCE, None) or secrets.token_urlsafe(24))


def run_for_form(form: forms.Form, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Run a domain call; a refusal is told on the form."""
    try:
        return runner.run(operation, *args, **kwargs)
    except Refusal as refusal:
        form.add_error(None, str(refusal))
        return None


def key_state(key: Any) -> SafeString:
    """Say whether a key lets anybody in."""
    if key.revoked_at:
        return display.badge("revoked", "bad")
    return display.badge("ended", "plain") if key.ended else display.badge("valid", "good")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin[ApiKey]):
    """Keys, the newest first. Their digests are shown to nobody."""

    list_display = ("prefix", "partner_name", "kind", "label_shown", "state", "created", "who", "until")
    list_select_related = ("partner",)
    list_filter = (
        filters.of_partner("partner"),
        filters.choices("kind", "kind", {value: (value, Q(kind=value)) for value in ApiKey.Kind.values}),
        filters.choices(
            "state",
            "state",
            {
                "valid": ("valid", Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=Now()))),
                "ended": ("ended", Q(revoked_at__isnull=True, expires_at__lte=Now())),
                "revoked": ("revoked", Q(revoked_at__isnull=False)),
            },
        ),
    )
    ordering = ("-pk",)
    search_fields = ("prefix__startswith", "partner__name__startswith")
    search_help_text = "A key's prefix or a partner's name, or the beginning of it. Never a whole key."
    shown = ("prefix", "partner_name", "kind", "label_shown", "state", "created", "who", "until", "limit", "revoked_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Without the digest, and with a word on whether the key has ended."""
        return super().get_queryset(request).defer("digest").annotate(ended=Q(expires_at__lte=Now()))

    def more_urls(self) -> list[URLPattern]:
        """Revoke a key, or limit it."""
        return [
            path("<path:object_id>/limit/", self.admin_site.admin_view(self.limit_calls), name="baskets_apikey_limit"),
            path("<path:object_id>/revoke/", self.admin_site.admin_view(self.revoke), name="baskets_apikey_revoke"),
        ]

    @method_decorator(csrf_protect)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke a key at once, after a page that says what that means."""
        require_superuser(request)
        key = self.found(request, object_id)
        back = reverse("admin:baskets_apikey_change", args=[quote(key.pk)])
        if request.method == "POST":
            actor = staff_actor(request)
            try:
                runner.run(api_keys.revoke_api_key, prefix=key.prefix, actor=actor)
            except api_keys.ApiKeyNotFound as gone:
                raise Http404 from gone
            messages.success(request, "The key is revoked: calls with it are refused from now on.")
            return HttpResponseRedirect(back)
        context = {"title": "Revoke an API key", "name": key.prefix, "key": key, "back": back}
        context["partner"] = display.visible(key.partner.name)
        context["label"] = display.visible(key.label)
        return self.render(request, "admin/baskets/revoke_key.html", context)

    @method_decorator(csrf_protect)
    def limit_calls(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Say how often a key may call."""
        require_superuser(request)
        key = self.found(request, object_id)
        form = LimitForm(request.POST or None, initial={"calls": key.calls_per_minute})
        if request.method == "POST" and form.is_valid():
            actor = staff_actor(request)
            calls: int | None = form.cleaned_data["calls"]
            if run_for_form(form, api_keys.set_api_key_rate_limit, prefix=key.prefix, calls_per_minute=calls, actor=actor):
                messages.success(request, "The limit of the key is set: it holds from the next call on.")
                return HttpResponseRedirect(reverse("admin:baskets_apikey_change", args=[quote(key.pk)]))
        context = {"title": "Limit an API key", "name": key.prefix, "record": key, "form": form, "submit": "Set limit"}
        return self.render(request, "admin/baskets/form.html", context)

    def tools(self, request: HttpRequest, record: ApiKey) -> list[tuple[str, str]]:
        """See what it holds and what it ordered; limit or revoke the key."""
        found: list[tuple[str, str]] = []
        if request.user.has_perm("baskets.view_checkoutsession"):
            sessions = reverse("admin:baskets_checkoutsession_changelist")
            found = [
                (f"{sessions}?held_by={record.prefix}", "What it holds"),
                (f"{sessions}?ordered_by={record.prefix}", "What it ordered"),
            ]
        if not request.user.is_superuser or record.revoked_at:
            return found
        limit = (reverse("admin:baskets_apikey_limit", args=[quote(record.pk)]), "Limit its calls")
        return [*found, limit, (reverse("admin:baskets_apikey_revoke", args=[quote(record.pk)]), "Revoke this key")]

    @admin.display(description="partner")
    def partner_name(self, key: ApiKey) -> SafeString:
        """The partner."""
        return display.page("partner", key.partner_id, display.visible(key.partner.name))

    @admin.display(description="label")
    def label_shown(self, key: ApiKey) -> SafeString | str:
        """What it is for."""
        return display.visible(key.label) if key.label else display.NOTHING

    @admin.display(description="state")
    def state(self, key: ApiKey) -> SafeString:
        """Whether it lets anybody in."""
        return key_state(key)

    @admin.display(description="created")
    def created(self, key: ApiKey) -> SafeString | str:
        """When it was issued."""
        return display.moment(key.created_at)

    @admin.display(description="by")
    def who(self, key: ApiKey) -> SafeString:
        """Who issued it."""
        return display.visible(key.created_by)

    @admin.display(description="valid until")
    def until(self, key: ApiKey) -> SafeString | str:
        """When it ends by itself."""
        return display.moment(key.expires_at) if key.expires_at else "it is revoked"

    @admin.display(description="calls a minute")
    def limit(self, key: ApiKey) -> str:
        """How often it may call."""
        if key.calls_per_minute is None:
            return "the limit of the service"
        return display.count(key.calls_per_minute) if key.calls_per_minute else "no limit"
