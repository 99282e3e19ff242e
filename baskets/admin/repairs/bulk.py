"""One repair of many rows: chosen in a list, shown on one page, confirmed once for one reason, and answered with a summary.

Each row is a repair of its own, in a transaction of its own: what is refused for one does not stop the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, InterfaceError
from django.urls import reverse

from baskets.admin.core import display
from baskets.admin.repairs import snapshots, views
from baskets.db import errors
from baskets.domain import runner
from baskets.domain.errors import Refusal
from baskets.domain.retries import OwnSessionLapsed, StockReclaimable
from baskets.domain.support import guards

if TYPE_CHECKING:
    from collections.abc import Iterable

    from django.db.models import QuerySet
    from django.http import HttpRequest, HttpResponse
    from django.utils.safestring import SafeString

    from baskets.admin.repairs.forms import RepairForm
    from baskets.admin.repairs.views import Repair, RepairAdmin

MAX_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row that was chosen.

    :param seen: the state that was on the page.
    """

    pk: str
    seen: int
    record: Any

    @property
    def name(self) -> SafeString:
        """The word that staff know it by."""
        return display.visible(views.name_of(self.record) if self.record else self.pk)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One request for a repair of many rows."""

    desk: RepairAdmin
    chosen: Repair
    request: HttpRequest

    def opened(self, records: Iterable[Any] | QuerySet[Any]) -> HttpResponse:
        """Show the page for rows that were chosen in the list, as they are now."""
        rows = [
            Row(pk=str(record.pk), seen=self.desk.kind.state_of(self.chosen, record), record=record)
            for record in list(records[: MAX_ROWS + 1])  # type: ignore[index]  # Django hands over a query set.
        ]
        form = self.chosen.form(record=None)
        return self.show(form, rows[:MAX_ROWS], rehearsed=not form.asks, more=len(rows) > MAX_ROWS)

    def answer(self) -> HttpResponse:
        """Show what is asked for, or do it."""
        rows = self.rows()
        form = self.chosen.form(self.request.POST, record=None)
        if not form.is_valid():
            return self.show(form, rows, rehearsed=not form.asks)
        if form.asks and self.request.POST.get("confirm") != form.shown:
            return self.show(form, rows, rehearsed=True)
        return self.do(form, rows)

    def rows(self) -> list[Row]:
        """The rows of the form; what is no row of this table is told as one that is gone."""
        said = dict(each.rpartition(" ")[::2] for each in self.request.POST.getlist("row")[:MAX_ROWS])
        field = self.desk.opts.pk
        keys = {}
        for pk, seen in said.items():
            if seen.isascii() and seen.isdigit() and len(seen) < len(str(2**63)):
                try:
                    keys[pk] = field.to_python(pk)
                except Exception:  # noqa: BLE001 (each kind of key refuses in its own way, and all mean the same)
                    keys[pk] = None
        known = {str(record.pk): record for record in self.desk.get_queryset(self.request).filter(pk__in=[k for k in keys.values() if k])}
        return [Row(pk=pk, seen=int(said[pk]), record=known.get(pk)) for pk in keys]

    def do(self, form: RepairForm, rows: list[Row]) -> HttpResponse:
        """Do it row by row, and tell what was done, and what was refused and why."""
        # A basket may have several rows. What the first of them moves is no news to the others.
        moved: dict[tuple[Any, int], int] = {}
        outcomes = [(row, self.done(form, row, moved)) for row in rows]
        context = {
            "title": self.chosen.title,
            "done": [row.name for row, refused in outcomes if not refused],
            "refused": [(row.name, refused) for row, refused in outcomes if refused],
            "back": self.back,
        }
        return self.desk.render(self.request, "admin/baskets/repaired_many.html", context)

    def done(self, form: RepairForm, row: Row, moved: dict[tuple[Any, int], int]) -> str:
        """Do one, and tell why not, where it was not done.

        :param moved: the state to which rows before this one have moved a subject, by the subject and the state that was shown.
        """
        if row.record is None:
            return "It is not there any more."
        subject = getattr(row.record, "basket_id", row.record.pk), row.seen
        seen = moved.get(subject, row.seen)
        call = views.operation(self.chosen, self.request, row.record, form.said, seen=seen, reason=form.cleaned_data["reason"])

        def state_after() -> int:
            call()
            return self.desk.kind.state_of(self.chosen, row.record)

        try:
            moved[subject] = runner.run(state_after)
        except Refusal as refusal:
            return views.told(refusal)
        except (DatabaseError, InterfaceError) as error:
            if errors.fault_of(error) is errors.Fault.INTERNAL:
                raise
            return views.BUSY
        return ""

    def show(self, form: RepairForm, rows: list[Row], *, rehearsed: bool, more: bool = False) -> HttpResponse:
        """Show the page: one form, and what would become of each row."""
        valid = form.is_bound and form.is_valid()
        confirmed = form.asks and rehearsed and valid
        context = {
            "title": self.chosen.title,
            "sentence": self.chosen.sentence,
            "form": form,
            "rows": [(row, *(self.rehearse(form, row, valid=valid) if rehearsed and rows else ([], ""))) for row in rows],
            "rehearsed": rehearsed,
            "more": more,
            "most": MAX_ROWS,
            "confirm": form.shown if confirmed else None,
            "submit": f"{self.chosen.title}: {len(rows)}" if confirmed or not form.asks else "Show what will change",
            "action": reverse(f"admin:baskets_{self.desk.opts.model_name}_repair_many", args=[self.chosen.slug]),
            "back": self.back,
        }
        return self.desk.render(self.request, "admin/baskets/repair_many.html", context)

    def rehearse(self, form: RepairForm, row: Row, *, valid: bool) -> tuple[list[tuple[str, object, object]], str]:
        """Find out what would become of one row: what changes, or why nothing does."""
        if row.record is None:
            return [], "It is not there any more."
        said, reason = (form.said, form.cleaned_data["reason"]) if valid else ({}, "rehearsal")
        call = views.operation(self.chosen, self.request, row.record, said, seen=row.seen, reason=reason)
        try:
            before, after = guards.dry_run(operation=call, snapshot=lambda: self.desk.kind.look_of(self.chosen, row.record))
        except Refusal as refusal:
            return [], views.told(refusal)
        except (StockReclaimable, OwnSessionLapsed):
            return [], views.LAPSED
        changes = [(name, was, becomes) for name, was, becomes, changed in snapshots.differences(before, after) if changed]
        return changes, ""

    @property
    def back(self) -> str:
        """The list."""
        return reverse(f"admin:baskets_{self.desk.opts.model_name}_changelist")
