"""The findings of `check_baskets`."""

from django.contrib import admin
from django.db.models import Q
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core import display, filters
from baskets.admin.core.columns import column
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
            _("finding"),
            "finding",
            {
                "open": (_("open"), Q(settled_at__isnull=True, gone_at__isnull=True)),
                "settled": (_("resolved"), Q(settled_at__isnull=False)),
                "gone": (_("whole again"), Q(gone_at__isnull=False)),
            },
        ),
    )
    ordering = ("-seen_at", "slug")
    shown = ("rule", "sentence", "total", "since", "seen", "state", "settled_by", "note")

    def tables(self, request: HttpRequest, record: BrokenRule) -> list[Table]:
        """Some of the rows that violate it, and the steps of staff."""
        steps = DeskEntry.objects.filter(about="brokenrule", subject=record.pk).order_by("-number")[:20]
        return [
            Table(
                title=gettext("Some of the rows that broke it"),
                heads=(gettext("Row"),),
                rows=[(display.record(row),) for row in record.examples],
            ),
            Table(
                title=gettext("What was done about it"),
                heads=(gettext("When"), gettext("What"), gettext("By"), gettext("Note")),
                rows=[
                    (display.moment(step.at), step.get_kind_display(), display.visible(step.actor), display.visible(step.note))
                    for step in steps
                ],
                nothing=gettext("Nothing yet."),
            ),
        ]

    since = column(_("first found"), "found_at", display.moment)
    seen = column(_("found last"), "seen_at", display.moment)

    @admin.display(description=_("state"))
    def state(self, rule: BrokenRule) -> SafeString:
        """Whether staff must act on it."""
        if rule.gone_at:
            return display.badge(gettext("whole again"), "good")
        return display.badge(gettext("resolved")) if rule.settled_at else display.badge(gettext("open"), "bad")
