"""API keys in the admin. Superusers limit and revoke them. Their texts and digests are never shown."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import Q
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display, filters
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.columns import column
from baskets.admin.core.limits import LimitField
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.core.reasons import ReasonForm
from baskets.admin.core.superuser_forms import require_superuser, run_for_form
from baskets.domain.access import api_keys
from baskets.models import ApiKey


class LimitForm(ReasonForm):
    """The rate limit of a key."""

    field_order = ("calls", "reason")
    calls = LimitField(max_value=api_keys.MAX_CALLS_PER_MINUTE, label=_("Calls a minute"), help_text=_("Empty: the limit of the service."))


def key_state(key: Any) -> SafeString:
    """Show whether a key is valid."""
    if key.revoked_at:
        return display.badge(gettext("revoked"), "bad")
    return display.badge(gettext("ended"), "plain") if key.ended else display.badge(gettext("valid"), "good")


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin[ApiKey]):
    """Keys, the newest first. Their digests are never shown."""

    list_display = ("prefix", "partner_name", "kind", "label_shown", "state", "created", "who", "until")
    list_select_related = ("partner",)
    list_filter = (
        filters.of_partner("partner"),
        filters.choices(_("kind"), "kind", {value: (value, Q(kind=value)) for value in ApiKey.Kind.values}),
        filters.choices(
            _("state"),
            "state",
            {
                "valid": (_("valid"), Q(revoked_at__isnull=True) & (Q(expires_at__isnull=True) | Q(expires_at__gt=Now()))),
                "ended": (_("ended"), Q(revoked_at__isnull=True, expires_at__lte=Now())),
                "revoked": (_("revoked"), Q(revoked_at__isnull=False)),
            },
        ),
    )
    ordering = ("-pk",)
    search_fields = ("prefix__startswith", "partner__name__startswith")
    search_help_text = _("A key's prefix or a partner's name, or the beginning of it. Never a whole key.")
    shown = ("prefix", "partner_name", "kind", "label_shown", "state", "created", "who", "until", "limit", "revoked_at")

    def get_queryset(self, request: HttpRequest) -> Any:
        """Leave out the digest, and annotate whether the key has ended."""
        return super().get_queryset(request).defer("digest").annotate(ended=Q(expires_at__lte=Now()))

    def page_context(self, request: HttpRequest, record: ApiKey) -> dict[str, Any]:
        """Offer the prefix to copy."""
        copy = display.copy_button(record.prefix, gettext("prefix of the key"))
        return super().page_context(request, record) | {"name": record.prefix, "copy": copy}

    def more_urls(self) -> list[URLPattern]:
        """Revoke a key, or limit it."""
        return [
            path("<path:object_id>/limit/", self.admin_site.admin_view(self.limit_calls), name="baskets_apikey_limit"),
            path("<path:object_id>/revoke/", self.admin_site.admin_view(self.revoke), name="baskets_apikey_revoke"),
        ]

    @method_decorator(csrf_protect)
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Revoke a key at once, after a page that explains the effect."""
        require_superuser(request)
        key = self.found(request, object_id)
        back = reverse("admin:baskets_apikey_change", args=[quote(key.pk)])
        form = ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            actor, reason = staff_actor(request), str(form.cleaned_data["reason"])
            if run_for_form(form, api_keys.revoke_api_key, prefix=key.prefix, reason=reason, actor=actor):
                messages.success(request, gettext("The key is revoked. Calls with it are refused from now on."))
                return HttpResponseRedirect(back)
        context = {"title": gettext("Revoke an API key"), "name": key.prefix, "record": key, "key": key, "back": back, "form": form}
        context["partner"] = display.visible(key.partner.name)
        context["label"] = display.visible(key.label)
        return self.render(request, "admin/baskets/revoke_key.html", context)

    @method_decorator(csrf_protect)
    def limit_calls(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Set the rate limit of a key."""
        require_superuser(request)
        key = self.found(request, object_id)
        form = LimitForm(request.POST or None, initial={"calls": key.calls_per_minute})
        if request.method == "POST" and form.is_valid():
            actor = staff_actor(request)
            values = {"calls_per_minute": form.cleaned_data["calls"], "reason": form.cleaned_data["reason"]}
            if run_for_form(form, api_keys.set_api_key_rate_limit, prefix=key.prefix, actor=actor, **values):
                messages.success(request, gettext("The limit is set. It applies from the next call on."))
                return HttpResponseRedirect(reverse("admin:baskets_apikey_change", args=[quote(key.pk)]))
        context = {"title": gettext("Limit an API key"), "name": key.prefix, "record": key, "form": form, "submit": gettext("Set limit")}
        return self.render(request, "admin/baskets/form.html", context)

    def tools(self, request: HttpRequest, record: ApiKey) -> list[tuple[str, str]]:
        """Link to the checkouts and orders of the key, to its limit, and to its revocation."""
        found: list[tuple[str, str]] = []
        if request.user.has_perm("baskets.view_checkoutsession"):
            sessions = reverse("admin:baskets_checkoutsession_changelist")
            found = [
                (f"{sessions}?held_by={record.prefix}", gettext("What it holds")),
                (f"{sessions}?ordered_by={record.prefix}", gettext("What it ordered")),
            ]
        if not request.user.is_superuser or record.revoked_at:
            return found
        limit = (reverse("admin:baskets_apikey_limit", args=[quote(record.pk)]), gettext("Limit its calls"))
        return [(reverse("admin:baskets_apikey_revoke", args=[quote(record.pk)]), gettext("Revoke this key")), limit, *found]

    partner_name = column(_("partner"), "partner", display.partner)
    label_shown = column(_("label"), "label", display.visible)
    state = column(_("state"), None, key_state)
    created = column(_("created"), "created_at", display.moment)
    who = column(_("by"), "created_by", display.actor_name)

    @admin.display(description=_("valid until"))
    def until(self, key: ApiKey) -> SafeString | str:
        """When it ends without a revocation."""
        return display.moment(key.expires_at) if key.expires_at else gettext("no end")

    @admin.display(description=_("calls a minute"))
    def limit(self, key: ApiKey) -> str:
        """How often it may call."""
        if key.calls_per_minute is None:
            return gettext("the limit of the service")
        return display.count(key.calls_per_minute) if key.calls_per_minute else gettext("no limit")
