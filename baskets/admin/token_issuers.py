"""The issuers of tokens that partners trust. Superusers add and remove them, each on a separate page."""

import json
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display, filters
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.columns import column
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.core.reasons import ReasonForm
from baskets.admin.core.refusals import translated
from baskets.admin.core.superuser_forms import require_superuser, run_for_form
from baskets.domain import runner
from baskets.domain.access import jwks_cache, token_issuers
from baskets.domain.access.partners import MAX_NAME_LENGTH
from baskets.models import Partner, TokenIssuer
from baskets.models.token_issuers import ALGORITHMS

MAX_KEY_SET_LENGTH = 100_000
OF_RESTRICTION = filters.choices(
    _("accepted tokens"),
    "accepts",
    {"every": (_("every token of its keys"), Q(issuer="", audience="")), "some": (_("those with iss or aud"), ~Q(issuer="", audience=""))},
)


class IssuerForm(ReasonForm):
    """The properties of an issuer."""

    field_order = ("partner", "name", "issuer", "audience", "algorithms", "keys_url", "keys", "unrestricted", "reason")
    partner = forms.ModelChoiceField(label=_("Partner"), queryset=Partner.objects.order_by("name"))
    name = forms.CharField(
        label=_("Name"),
        max_length=MAX_NAME_LENGTH,
        strip=False,
        help_text=_("What it is called here. One that has this name already is replaced."),
    )
    issuer = forms.CharField(
        max_length=token_issuers.MAX_CLAIM_LENGTH,
        required=False,
        strip=False,
        label=_("iss"),
        help_text=_("What its tokens say. Empty: anything."),
    )
    audience = forms.CharField(
        max_length=token_issuers.MAX_CLAIM_LENGTH,
        required=False,
        strip=False,
        label=_("aud"),
        help_text=_("The service they are for. Empty: any."),
    )
    algorithms = forms.MultipleChoiceField(
        choices=[(name, name) for name in ALGORITHMS],
        initial=list(token_issuers.DEFAULT_ALGORITHMS),
        label=_("Algorithms"),
        help_text=_("How it signs."),
    )
    keys_url = forms.CharField(max_length=2000, required=False, label=_("Address of its key set"), help_text=_("A JWKS, by https."))
    keys = forms.CharField(
        max_length=MAX_KEY_SET_LENGTH,
        required=False,
        widget=forms.Textarea,
        label=_("Or the key set itself"),
        help_text=_('JSON: {"keys": [...]}, public keys only.'),
    )
    unrestricted = forms.BooleanField(
        required=False,
        label=_("Trust every token"),
        help_text=_(
            "Needed if both iss and aud are empty: every token that is signed with these keys is good then, "
            "for whatever service it was made."
        ),
    )

    def clean_keys(self) -> Any:
        """Take JSON, or nothing."""
        text: str = self.cleaned_data["keys"]
        if not text.strip():
            return None
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise forms.ValidationError(gettext("This is not JSON.")) from None


@admin.register(TokenIssuer)
class TokenIssuerAdmin(ReadOnlyAdmin[TokenIssuer]):
    """Issuers by partner."""

    list_display = ("name_shown", "partner_name", "issuer", "audience", "accepts", "signs_with", "source", "fetched", "problem")
    list_select_related = ("partner",)
    list_filter = (filters.of_partner("partner"), OF_RESTRICTION)
    ordering = ("partner__name", "name")
    search_fields = ("name__startswith", "partner__name__startswith", "issuer__startswith")
    search_help_text = _("The name of an issuer or a partner, or what `iss` is; or the beginning of it.")
    shown = (
        *("name_shown", "partner_name", "issuer", "audience", "accepts", "signs_with", "source", "usable_keys", "fetched", "problem"),
        *("created", "who"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Superusers add issuers, on a separate page."""
        return bool(request.user.is_active and request.user.is_superuser)

    def more_urls(self) -> list[URLPattern]:
        """Add an issuer; remove one; fetch the keys of one."""
        return [
            path("add/", self.admin_site.admin_view(self.add_issuer), name="baskets_tokenissuer_add"),
            path("<path:object_id>/remove/", self.admin_site.admin_view(self.remove), name="baskets_tokenissuer_remove"),
            path("<path:object_id>/fetch/", self.admin_site.admin_view(self.fetch), name="baskets_tokenissuer_fetch"),
        ]

    @method_decorator(csrf_protect)
    def add_issuer(self, request: HttpRequest) -> HttpResponse:
        """Add an issuer whose tokens are accepted."""
        require_superuser(request)
        form = IssuerForm(request.POST or None, initial={"partner": request.GET.get("partner")})
        if request.method == "POST" and form.is_valid():
            values, actor = form.cleaned_data, staff_actor(request)
            added = run_for_form(
                form,
                token_issuers.add_issuer,
                partner_name=values["partner"].name,
                name=values["name"],
                issuer=values["issuer"],
                audience=values["audience"],
                algorithms=values["algorithms"],
                keys=values["keys"],
                keys_url=values["keys_url"],
                unrestricted=values["unrestricted"],
                reason=values["reason"],
                actor=actor,
            )
            if added:
                messages.success(request, gettext("The issuer is added. Its tokens are valid from the next call on."))
                if added.issuer.keys_url:
                    _fetch_keys(request, added.issuer)
                _name_skipped(request, added.skipped)
                return HttpResponseRedirect(reverse("admin:baskets_tokenissuer_change", args=[added.issuer.pk]))
        return self.render(
            request, "admin/baskets/form.html", {"title": gettext("Add an issuer"), "form": form, "submit": gettext("Add issuer")}
        )

    @method_decorator(csrf_protect)
    def remove(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Remove an issuer at once, after a page that states the effect."""
        require_superuser(request)
        found = self.found(request, object_id)
        form = ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            actor, reason = staff_actor(request), str(form.cleaned_data["reason"])
            try:
                runner.run(token_issuers.remove_issuer, partner_name=found.partner.name, name=found.name, reason=reason, actor=actor)
            except token_issuers.IssuerNotFound as gone:
                raise Http404 from gone
            messages.success(request, gettext("The issuer is removed. Its tokens are refused from now on."))
            return HttpResponseRedirect(reverse("admin:baskets_tokenissuer_changelist"))
        context = {"title": gettext("Remove an issuer"), "name": display.visible(found.name), "record": found, "form": form}
        context["partner"] = display.visible(found.partner.name)
        context["back"] = reverse("admin:baskets_tokenissuer_change", args=[quote(found.pk)])
        return self.render(request, "admin/baskets/remove_issuer.html", context)

    @method_decorator(csrf_protect)
    def fetch(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Fetch the keys that an issuer publishes."""
        require_superuser(request)
        found = self.found(request, object_id)
        if not found.keys_url:
            raise Http404
        if request.method == "POST":
            _fetch_keys(request, found)
            return HttpResponseRedirect(reverse("admin:baskets_tokenissuer_change", args=[quote(found.pk)]))
        context = {"title": gettext("Fetch the keys of an issuer"), "form": forms.Form(), "submit": gettext("Fetch keys now")}
        return self.render(request, "admin/baskets/form.html", context)

    def tools(self, request: HttpRequest, record: TokenIssuer) -> list[tuple[str, str]]:
        """Return the links to remove the issuer and to fetch the keys that it publishes."""
        if not request.user.is_superuser:
            return []
        named = [("remove", gettext("Remove this issuer")), *([("fetch", gettext("Fetch its keys"))] if record.keys_url else [])]
        return [(reverse(f"admin:baskets_tokenissuer_{name}", args=[quote(record.pk)]), label) for name, label in named]

    name_shown = column(_("name"), "name", display.visible)
    partner_name = column(_("partner"), "partner", display.partner)

    @admin.display(description=_("signs with"))
    def signs_with(self, issuer: TokenIssuer) -> str:
        """Its algorithms."""
        return ", ".join(issuer.algorithms)

    @admin.display(description=_("keys from"))
    def source(self, issuer: TokenIssuer) -> SafeString | str:
        """Where its keys are."""
        return display.visible(issuer.keys_url, limit=200) if issuer.keys_url else gettext("stored here")

    @admin.display(description=_("accepts"))
    def accepts(self, issuer: TokenIssuer) -> str:
        """Whether anything restricts its tokens to this service."""
        return (
            gettext("tokens with this iss or aud")
            if issuer.issuer or issuer.audience
            else gettext("EVERY token of its keys, for whatever service")
        )

    @admin.display(description=_("usable keys"))
    def usable_keys(self, issuer: TokenIssuer) -> SafeString | str:
        """The stored keys by their `kid`, each with its algorithms."""
        keys = jwks_cache.stored_keys(issuer)
        lines = [f"{'(no kid)' if key.kid is None else key.kid}: {', '.join(sorted(key.algorithms))}" for key in keys]
        return display.visible("; ".join(lines), limit=2000) if keys else gettext("none")

    fetched = column(_("keys fetched"), "fetched_at", display.moment)

    @admin.display(description=_("problem of the last fetch"))
    def problem(self, issuer: TokenIssuer) -> SafeString:
        """Why its keys could not be fetched last."""
        return display.visible(translated(issuer.fetch_problem), limit=500)

    created = column(_("trusted since"), "created_at", display.moment)
    who = column(_("last changed by"), "created_by", display.actor_name)


def _fetch_keys(request: HttpRequest, issuer: TokenIssuer) -> None:
    """Fetch the keys of an issuer, and say what came of it."""
    try:
        found = jwks_cache.fetch_now(issuer=issuer, actor=staff_actor(request))
    except jwks_cache.KeysNotFetched as error:
        messages.error(request, gettext("Its keys could not be fetched now: %(problem)s") % {"problem": translated(error)})
        return
    messages.success(request, gettext("%(number)s keys were fetched.") % {"number": len(found.keys)})
    _name_skipped(request, found.skipped)


def _name_skipped(request: HttpRequest, skipped: Iterable[str]) -> None:
    """Name the keys that cannot be used."""
    for sentence in skipped:
        messages.warning(request, gettext("Skipped %(key)s") % {"key": sentence})
