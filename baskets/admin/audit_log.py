"""The audit log: who did what, when and why, with the values before and after. Read-only, and exported like every list."""

import functools
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Case, OuterRef, Q, QuerySet, Subquery, UUIDField, Value, When
from django.db.models.functions import Cast, NullIf
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display, exports, filters
from baskets.admin.core.columns import column
from baskets.admin.core.labels import ACTOR_KINDS
from baskets.admin.core.languages import Text
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.core.search import of_order, of_owner, order_number_in, search_terms
from baskets.admin.repairs.registry import TITLES
from baskets.domain import audit_log
from baskets.domain.actors import ActorKind
from baskets.models import Basket, DeskEntry, WebhookChange

MAX_ACCOUNTS = 100
# The records whose page is found by what an entry stores of them; of the others, by a search of their list.
WITH_PAGE = {"basket", "product", "brokenrule", "webhookendpoint"}
WITH_SEARCH = {"partner", "apikey", "tokenissuer"}
SHOWN_APART = {"before", "after", "repair", "step"}
# How many entries a part of a search finds.
MAX_FOUND = 1000
ABOUT: dict[str, Text] = {model.__name__.lower(): model._meta.verbose_name or "" for model in apps.get_app_config("baskets").get_models()}  # noqa: SLF001
ABOUT |= {"account": _("account"), "role": _("role")}
STEPS = dict(WebhookChange.Kind.choices)
# Repairs of partners, webhooks and findings: the kind of the entry says what was done.
NAMED_BY_THEIR_KIND = {"change_settings", "settle_rule", "send_test", "pause", "resume", "replay", "skip_event"}
REPAIRS = {name: TITLES[name] for name in TITLES if name not in NAMED_BY_THEIR_KIND}


class OfActor(admin.SimpleListFilter):
    """Filter by the author: an account of staff, or the command or key that an entry links to."""

    title = _("author")
    parameter_name = "who"

    def lookups(self, request: HttpRequest, model_admin: "admin.ModelAdmin[Any]") -> list[tuple[str, str]]:
        """The accounts of staff, and the present choice."""
        names = list(User.objects.filter(is_staff=True).order_by("username").values_list("username", flat=True)[:MAX_ACCOUNTS])
        chosen = self.value() or ""
        return [(name, name) for name in names + ([chosen] if chosen and chosen not in names else [])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The entries of the author."""
        return queryset.filter(actor=self.value()) if self.value() else queryset


def entries_found(typed: str) -> list[int]:
    """The newest entries about a subject, a user or an order, by an author, with all words in their reason; and exports by this search.

    Each part has its index and its order, so that the planner reads no more than the limit from it.
    """
    entries = DeskEntry.objects.all()
    parts = [entries.with_words(typed)]
    for term in search_terms(typed):
        baskets = of_owner(term) + (of_order(term) if order_number_in(term) else [])
        parts += [
            entries.filter(subject__in=[term, *map(str, baskets)]),
            entries.filter(actor=term),
            entries.filter(kind=DeskEntry.Kind.EXPORTED, data__asked__q=audit_log.digest(term)),
        ]
    first, *others = (part.order_by("-pk").values_list("pk", flat=True)[:MAX_FOUND] for part in parts)
    return list(first.union(*others))


@admin.register(DeskEntry)
class DeskEntryAdmin(ReadOnlyAdmin[DeskEntry]):
    """The audit log, the newest first."""

    list_display = ("time", "who", "what_kind", "about_what", "reason", "change")
    list_display_links = ("time",)
    list_select_related = ("partner",)
    list_filter = (
        OfActor,
        filters.choices(_("kind"), "kind", {value: (label, Q(kind=value)) for value, label in DeskEntry.Kind.choices}),
        filters.choices(
            _("repair"),
            "repair",
            {name: (title, Q(kind=DeskEntry.Kind.REPAIRED, data__repair=name)) for name, title in REPAIRS.items()},
        ),
        filters.of_partner("partner"),
        filters.between(_("day"), "at"),
        filters.choices(_("kind of author"), "by", {kind: (label, Q(actor_kind=kind)) for kind, label in ACTOR_KINDS.items()}),
    )
    ordering = ("-pk",)
    search_fields = ("subject",)
    search_help_text = _(
        "A word of the reason or the note; an order number, a user, a product id or a key prefix; the name of a partner, an issuer, "
        "a rule, a role, an account or a command. A search text also finds who exported by it."
    )
    exported = ("time", "who", "what_kind", "what", "partner_name", "reason", "before", "after", "details")
    shown = ("time", "who", "what_kind", "what", "partner_name", "reason", "before", "after", "details", "request_id")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Search for the whole term, and for its words in the reason."""
        return queryset.filter(pk__in=entries_found(search_term)) if search_terms(search_term) else queryset, False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Annotate the user of an entry about a basket. An export of the list and an erasure name none."""
        key = Case(When(about="basket", then=Cast(NullIf("subject", Value("")), UUIDField())))
        user = Basket.objects.filter(pk=OuterRef("basket_key")).values("user_id")
        rows: QuerySet[Any] = super().get_queryset(request).alias(basket_key=key).annotate(user_id=Subquery(user))
        return rows

    def export_columns(self, request: HttpRequest) -> exports.Columns:
        """A file has each value in a column."""
        return {name: (self._label(name), functools.partial(self._value, name)) for name in self.exported}

    time = column(_("time"), "at", display.moment)

    @admin.display(description=_("what"))
    def what_kind(self, entry: DeskEntry) -> str:
        """What was done."""
        if title := TITLES.get(entry.data.get("repair", "")):
            return str(title)
        step = entry.data.get("repair") or entry.data.get("step")
        return f"{entry.get_kind_display()}: {STEPS.get(step) or str(step).replace('_', ' ')}" if step else entry.get_kind_display()

    @admin.display(description=_("about"))
    def what(self, entry: DeskEntry) -> SafeString:
        """What it is about, with a link where there is a page."""
        about = ABOUT.get(entry.about, entry.about)
        if not entry.subject:
            return format_html("{}", about)
        names = filter(None, (getattr(entry, "user_id", None), entry.data.get("orderNo")))
        subject = display.visible(", ".join(names) or entry.subject, limit=60)
        if entry.about in WITH_PAGE:
            return format_html("{} {}", about, display.page(entry.about, entry.subject, subject))
        if entry.about in WITH_SEARCH:
            return format_html("{} {}", about, display.found_page(entry.about, entry.subject, subject))
        return format_html("{} {}", about, subject)

    @admin.display(description=_("about"))
    def about_what(self, entry: DeskEntry) -> SafeString:
        """What it is about, and at which partner."""
        named = entry.partner and not (entry.about == "partner" and entry.subject == entry.partner.name)
        return format_html('{}<br><span class="quiet">{}</span>', self.what(entry), self.partner_name(entry)) if named else self.what(entry)

    partner_name = column(_("partner"), "partner", display.partner)

    @admin.display(description=_("by"))
    def who(self, entry: DeskEntry) -> SafeString:
        """Who did it, with a link to everything that the same author did."""
        address = f"{reverse('admin:baskets_deskentry_changelist')}?{urlencode({'who': entry.actor})}"
        is_key = entry.actor_kind == ActorKind.KEY
        author = format_html(gettext("key {}"), display.visible(entry.actor)) if is_key else display.actor(entry, partner="")
        return format_html('<a href="{}">{}</a>', address, author)

    reason = column(_("why"), "note", display.visible, limit=200)

    @admin.display(description=_("before and after"))
    def change(self, entry: DeskEntry) -> SafeString | str:
        """The changed values; if there are none, the details."""
        before, after = (entry.data.get(name) or {} for name in ("before", "after"))
        return display.changed_values(before, after) or self.details(entry)

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
        return display.record({name: value for name, value in entry.data.items() if name not in SHOWN_APART}) or display.NOTHING
