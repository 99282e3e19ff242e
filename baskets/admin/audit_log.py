"""The audit log: who did what, when and why, with the values before and after. Read-only, and exported like every list."""

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display, filters
from baskets.admin.core.labels import ACTOR_KINDS
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.core.search import any_term
from baskets.domain import audit_log
from baskets.domain.actors import ActorKind
from baskets.models import DeskEntry

MAX_ACCOUNTS = 100
# The records whose page is found by what an entry stores of them; of the others, by a search of their list.
WITH_PAGE = {"basket", "product", "brokenrule", "webhookendpoint"}
WITH_SEARCH = {"partner", "apikey", "tokenissuer"}
BEFORE_AND_AFTER = {"before", "after"}


class OfActor(admin.SimpleListFilter):
    """Filter by the author: an account of staff, or the command or key that an entry links to."""

    title = _("who")
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        """The accounts of staff, and the present choice."""
        names = list(User.objects.filter(is_staff=True).order_by("username").values_list("username", flat=True)[:MAX_ACCOUNTS])
        chosen = self.value() or ""
        return [(name, name) for name in names + ([chosen] if chosen and chosen not in names else [])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The entries of the author."""
        return queryset.filter(actor=self.value()) if self.value() else queryset


def _mentions(term: str) -> Q:
    """The entries about a subject or by an author, and the exports that were searched for a text."""
    return Q(subject=term) | Q(actor=term) | Q(kind="exported", data__asked__q=audit_log.digest(term))


@admin.register(DeskEntry)
class DeskEntryAdmin(ReadOnlyAdmin[DeskEntry]):
    """The audit log, the newest first."""

    list_display = ("time", "who", "what_kind", "what", "partner_name", "words", "before", "after")
    list_display_links = ("time",)
    list_select_related = ("partner",)
    list_filter = (
        OfActor,
        filters.choices(_("kind"), "kind", {value: (label, Q(kind=value)) for value, label in DeskEntry.Kind.choices}),
        filters.of_partner("partner"),
        filters.between(_("day"), "at"),
        filters.choices(_("by"), "by", {kind: (label, Q(actor_kind=kind)) for kind, label in ACTOR_KINDS.items()}),
    )
    ordering = ("-pk",)
    search_fields = ("subject",)
    search_help_text = _(
        "A whole product id, order or key prefix, the name of a partner, an issuer, a rule, a role, an account or a command; "
        "or a search text, to find who exported by it."
    )
    shown = ("time", "who", "what_kind", "what", "partner_name", "words", "before", "after", "details", "request_id")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Search for the whole term."""
        return queryset.filter(any_term(search_term, _mentions)), False

    @admin.display(description=_("time"))
    def time(self, entry: DeskEntry) -> SafeString | str:
        """When."""
        return display.moment(entry.at)

    @admin.display(description=_("what"))
    def what_kind(self, entry: DeskEntry) -> str:
        """What was done."""
        step = entry.data.get("repair") or entry.data.get("step")
        return f"{entry.get_kind_display()}: {str(step).replace('_', ' ')}" if step else entry.get_kind_display()

    @admin.display(description=_("about"))
    def what(self, entry: DeskEntry) -> SafeString:
        """What it is about, with a link where there is a page."""
        if not entry.subject:
            return format_html("{}", entry.about)
        subject = display.visible(entry.data.get("orderNo") or entry.subject, limit=60)
        if entry.about in WITH_PAGE:
            return format_html("{} {}", entry.about, display.page(entry.about, entry.subject, subject))
        if entry.about in WITH_SEARCH:
            address = f"{reverse(f'admin:baskets_{entry.about}_changelist')}?{urlencode({'q': entry.subject})}"
            return format_html('{} <a href="{}">{}</a>', entry.about, address, subject)
        return format_html("{} {}", entry.about, subject)

    @admin.display(description=_("partner"))
    def partner_name(self, entry: DeskEntry) -> SafeString | str:
        """Which partner is concerned."""
        return display.page("partner", entry.partner.pk, display.visible(entry.partner.name)) if entry.partner else display.NOTHING

    @admin.display(description=_("by"))
    def who(self, entry: DeskEntry) -> SafeString:
        """Who did it, with a link to everything that the same author did."""
        address = f"{reverse('admin:baskets_deskentry_changelist')}?{urlencode({'who': entry.actor})}"
        is_key = entry.actor_kind == ActorKind.KEY
        author = format_html(gettext("key {}"), display.visible(entry.actor)) if is_key else display.actor(entry, partner="")
        return format_html('<a href="{}">{}</a>', address, author)

    @admin.display(description=_("why"))
    def words(self, entry: DeskEntry) -> SafeString | str:
        """Why."""
        return display.visible(entry.note, limit=200) if entry.note else display.NOTHING

    @admin.display(description=_("before"))
    def before(self, entry: DeskEntry) -> SafeString | str:
        """The values before."""
        return display.record(entry.data.get("before")) or display.NOTHING

    @admin.display(description=_("after"))
    def after(self, entry: DeskEntry) -> SafeString | str:
        """The values after."""
        return display.record(entry.data.get("after")) or display.NOTHING

    @admin.display(description=_("details"))
    def details(self, entry: DeskEntry) -> SafeString | str:
        """What else is recorded."""
        return display.record({name: value for name, value in entry.data.items() if name not in BEFORE_AND_AFTER}) or display.NOTHING
