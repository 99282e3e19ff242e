"""The findings of `check_baskets`, and the audit log of the admin."""

from typing import Any

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from baskets.admin.core import display, filters
from baskets.admin.core.readonly import ReadOnlyAdmin, Table
from baskets.admin.core.search import any_term
from baskets.admin.repairs.admin import RepairAdmin
from baskets.admin.repairs.registry import RULE_REPAIRS
from baskets.domain.support import audit_log
from baskets.models import BrokenRule, DeskEntry


@admin.register(BrokenRule)
class BrokenRuleAdmin(RepairAdmin):
    """Broken rules, those found last first."""

    repairs = RULE_REPAIRS
    list_display = ("slug", "sentence", "total", "since", "seen", "state")
    list_filter = (
        filters.choices(
            "finding",
            "finding",
            {
                "open": ("open", Q(settled_at__isnull=True, gone_at__isnull=True)),
                "settled": ("resolved", Q(settled_at__isnull=False)),
                "gone": ("whole again", Q(gone_at__isnull=False)),
            },
        ),
    )
    ordering = ("-seen_at", "slug")
    shown = ("rule", "sentence", "total", "since", "seen", "state", "settled_by", "note")

    def tables(self, request: HttpRequest, record: BrokenRule) -> list[Table]:
        """Some of the rows that violate it, and the steps of staff."""
        steps = DeskEntry.objects.filter(about="brokenrule", subject=record.pk).order_by("-number")[:20]
        return [
            Table(title="Some of the rows that broke it", heads=("Row",), rows=[(display.record(row),) for row in record.examples]),
            Table(
                title="What was done about it",
                heads=("When", "What", "By", "Note"),
                rows=[
                    (display.moment(step.at), step.get_kind_display(), display.visible(step.actor), display.visible(step.note))
                    for step in steps
                ],
                nothing="Nothing yet.",
            ),
        ]

    @admin.display(description="first found")
    def since(self, rule: BrokenRule) -> SafeString | str:
        """Since when it is broken."""
        return display.moment(rule.found_at)

    @admin.display(description="found last")
    def seen(self, rule: BrokenRule) -> SafeString | str:
        """When it was found broken last."""
        return display.moment(rule.seen_at)

    @admin.display(description="state")
    def state(self, rule: BrokenRule) -> SafeString:
        """Whether staff must act on it."""
        if rule.gone_at:
            return display.badge("whole again", "good")
        return display.badge("resolved") if rule.settled_at else display.badge("open", "bad")


def _mentions(term: str) -> Q:
    """The entries about a subject, and the exports that were searched for a text."""
    return Q(about__in=["product", "brokenrule", "account", "role"], subject=term) | Q(
        kind="exported", data__asked__q=audit_log.digest(term)
    )


@admin.register(DeskEntry)
class DeskEntryAdmin(ReadOnlyAdmin[DeskEntry]):
    """The audit log, the newest first: exports, checks, sign-ins, changes of rights, and steps about products and findings."""

    list_display = ("time", "kind", "what", "who", "words")
    list_display_links = ("time",)
    list_filter = (filters.choices("kind", "kind", {value: (label, Q(kind=value)) for value, label in DeskEntry.Kind.choices}),)
    ordering = ("-pk",)
    search_fields = ("subject",)
    search_help_text = "A whole product id, the name of a rule, an account or a role; or a search text, to find who exported by it."
    shown = ("time", "kind", "what", "who", "request_id", "words", "data")

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[QuerySet[Any], bool]:
        """Search for the whole term."""
        return queryset.filter(any_term(search_term, _mentions)), False

    @admin.display(description="time")
    def time(self, entry: DeskEntry) -> SafeString | str:
        """When."""
        return display.moment(entry.at)

    @admin.display(description="about")
    def what(self, entry: DeskEntry) -> SafeString:
        """What it is about."""
        return (
            format_html("{} {}", entry.about, display.visible(entry.subject, limit=60)) if entry.subject else format_html("{}", entry.about)
        )

    @admin.display(description="by")
    def who(self, entry: DeskEntry) -> SafeString:
        """Who did it."""
        return display.actor(entry, partner="")

    @admin.display(description="note")
    def words(self, entry: DeskEntry) -> SafeString | str:
        """Why."""
        return display.visible(entry.note, limit=200) if entry.note else display.NOTHING
