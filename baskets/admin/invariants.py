"""The findings of `check_baskets`."""

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString

from baskets.admin.core import display, filters
from baskets.admin.core.readonly import Table
from baskets.admin.repairs.admin import RepairAdmin
from baskets.admin.repairs.registry import RULE_REPAIRS
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
