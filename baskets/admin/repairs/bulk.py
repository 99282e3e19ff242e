"""The page of one repair of many rows: chosen in a list, previewed, confirmed once with one reason, and reported row by row.

Each row is repaired in its own transaction: a row that is refused does not stop the others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic

from django.db.models import QuerySet  # noqa: TC002 (a type at run time, too, as everywhere in this package)
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from baskets.admin.core import display
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.repairs import execution
from baskets.admin.repairs.definitions import R, Repair, make_operation
from baskets.admin.repairs.forms import PREVIEW_REASON, RepairForm
from baskets.admin.repairs.snapshots import Difference
from baskets.domain.errors import Refusal

MAX_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class BulkRow(Generic[R]):
    """One chosen row.

    :param version: the version of the record that the page has shown.
    :param record: None if the record no longer exists.
    """

    pk: str
    version: int
    record: R | None
    name: SafeString


@dataclass(frozen=True, kw_only=True)
class RowPreview(Generic[R]):
    """One chosen row with what would change, or the reason why nothing would."""

    row: BulkRow[R]
    changes: Sequence[Difference] = ()
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class BulkRepairView(Generic[R]):
    """One request for a repair of many rows."""

    model_admin: ReadOnlyAdmin[Any]
    repair: Repair[R]
    request: HttpRequest

    def open(self, records: "QuerySet[Any]") -> HttpResponse:
        """Show the page for the rows that were chosen in the list, with their current versions."""
        found: list[R] = list(records[: MAX_ROWS + 1])
        rows = [self._row(str(record.pk), self.repair.version(record), record) for record in found]
        form = self.repair.form_class(record=None)
        return self._show(form, rows[:MAX_ROWS], with_preview=not form.has_details, has_more=len(rows) > MAX_ROWS)

    def respond(self) -> HttpResponse:
        """Show the form, show the preview, or execute the repair, by the same rules as `RepairView`."""
        rows = self._submitted_rows()
        form = self.repair.form_class(self.request.POST, record=None)
        if not form.is_valid():
            return self._show(form, rows, with_preview=not form.has_details)
        if form.has_details and self.request.POST.get("confirm") != form.fingerprint:
            return self._show(form, rows, with_preview=True)
        return self._execute(form, rows)

    def _row(self, pk: str, version: int, record: R | None) -> BulkRow[R]:
        name = display.visible(self.repair.label(record) if record else pk)
        return BulkRow(pk=pk, version=version, record=record, name=name)

    def _submitted_rows(self) -> list[BulkRow[R]]:
        """Read the rows of the form. A key that this table cannot have counts as one whose record no longer exists."""
        versions = dict(text.rpartition(" ")[::2] for text in self.request.POST.getlist("row")[:MAX_ROWS])
        keys: dict[str, Any] = {}
        for pk, version in versions.items():
            if version.isascii() and version.isdigit() and len(version) < len(str(2**63)):
                try:
                    keys[pk] = self.model_admin.opts.pk.to_python(pk)
                except Exception:  # noqa: BLE001 (each kind of key refuses in its own way, and all mean the same)
                    keys[pk] = None
        found = self.model_admin.get_queryset(self.request).filter(pk__in=[key for key in keys.values() if key])
        records = {str(record.pk): record for record in found}
        return [self._row(pk, int(versions[pk]), records.get(pk)) for pk in keys]

    def _execute(self, form: RepairForm, rows: Iterable[BulkRow[R]]) -> HttpResponse:
        """Repair row by row, and report which rows are done, and which are refused and why."""
        # Rows may share one version: what an earlier row has changed must not make a later row stale.
        versions: dict[tuple[object, int], int] = {}
        outcomes = [(row.name, self._execute_row(form, row, versions)) for row in rows]
        context = {
            "title": self.repair.title,
            "done": [name for name, refusal in outcomes if not refusal],
            "refused": [(name, refusal) for name, refusal in outcomes if refusal],
            "back": self._list_url,
        }
        return self.model_admin.render(self.request, "admin/baskets/repaired_many.html", context)

    def _execute_row(self, form: RepairForm, row: BulkRow[R], versions: dict[tuple[object, int], int]) -> str:
        """Repair one row.

        :param versions: by scope and shown version: the version that earlier rows have left behind.
        :returns: why the row is refused, or an empty text.
        """
        if (record := row.record) is None:
            return execution.GONE
        scope = self.repair.version_scope(record), row.version
        operation = make_operation(
            self.repair,
            self.request,
            record,
            cleaned=form.details,
            expected_version=versions.get(scope, row.version),
            reason=form.cleaned_data["reason"],
        )

        def version_after() -> int:
            operation()
            return self.repair.version(record)

        try:
            versions[scope] = execution.run(version_after)
        except (Refusal, execution.DatabaseBusy) as problem:
            return execution.refusal_text(problem)
        return ""

    def _show(self, form: RepairForm, rows: Sequence[BulkRow[R]], *, with_preview: bool, has_more: bool = False) -> HttpResponse:
        """Show the page: one form, and what would change in each row."""
        is_valid = form.is_bound and form.is_valid()
        is_confirmed = form.has_details and with_preview and is_valid
        context = {
            "title": self.repair.title,
            "description": self.repair.description,
            "form": form,
            "rows": [self._preview_row(form, row, is_valid=is_valid) if with_preview else RowPreview(row=row) for row in rows],
            "is_previewed": with_preview,
            "has_more": has_more,
            "max_rows": MAX_ROWS,
            "confirm": form.fingerprint if is_confirmed else None,
            "submit": f"{self.repair.title}: {len(rows)}" if is_confirmed or not form.has_details else "Show what will change",
            "action": reverse(f"admin:baskets_{self.model_admin.opts.model_name}_repair_many", args=[self.repair.slug]),
            "back": self._list_url,
        }
        return self.model_admin.render(self.request, "admin/baskets/repair_many.html", context)

    def _preview_row(self, form: RepairForm, row: BulkRow[R], *, is_valid: bool) -> RowPreview[R]:
        """Run the repair of one row as a dry run."""
        if row.record is None:
            return RowPreview(row=row, refusal=execution.GONE)
        cleaned, reason = (form.details, form.cleaned_data["reason"]) if is_valid else ({}, PREVIEW_REASON)
        operation = make_operation(self.repair, self.request, row.record, cleaned=cleaned, expected_version=row.version, reason=reason)
        preview = execution.preview(self.repair, row.record, operation)
        changes = [change for change in preview.changes if change.is_changed]
        return RowPreview(row=row, changes=changes, refusal=execution.refusal_text(preview.obstacle))

    @property
    def _list_url(self) -> str:
        return reverse(f"admin:baskets_{self.model_admin.opts.model_name}_changelist")
