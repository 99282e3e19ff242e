"""The page of one repair of many rows: chosen in a list, previewed, confirmed once with one reason, and reported row by row.

Each row is repaired in its own transaction: a row that is refused does not stop the others. The result is kept in the session of
the user, so that its page can be loaded again; the timelines of the baskets are the record of what was done.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Generic

from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.db.models import QuerySet  # noqa: TC002 (a type at run time, too, as everywhere in this package)
from django.db.models.functions import Now
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from baskets.admin.core import display
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.repairs import execution
from baskets.admin.repairs.definitions import R, Repair, make_operation
from baskets.admin.repairs.forms import PREVIEW_REASON, RepairForm
from baskets.admin.repairs.registry import what_happened
from baskets.admin.repairs.snapshots import Difference
from baskets.domain.errors import Refusal
from baskets.models import Basket, CheckoutSession, Partner

MAX_ROWS = 100
# In a session: the results that can still be shown, by id, the latest last.
RESULTS = "baskets_bulk_results"
MAX_RESULTS = 5


@dataclass(frozen=True, kw_only=True)
class BulkRow(Generic[R]):
    """One chosen row.

    :param version: the version of the record that the page has shown.
    :param outcome: the digest of what the page has shown that the repair would lead to; empty where it has shown none.
    :param record: None if the record no longer exists.
    """

    pk: str
    version: int
    record: R | None
    outcome: str = ""

    @property
    def owner(self) -> tuple[str, str]:
        """The user and the partner of the record; empty texts if it no longer exists."""
        basket = self.record if isinstance(self.record, Basket) else getattr(self.record, "basket", None)
        return (basket.user_id, basket.partner.name) if basket else ("", "")


@dataclass(frozen=True, kw_only=True)
class RowFacts:
    """What tells staff which row it is: whose, how old, and what it comes to."""

    name: SafeString
    user: SafeString | str
    partner: SafeString
    since: SafeString
    total: str


@dataclass(frozen=True, kw_only=True)
class RowPreview(Generic[R]):
    """One chosen row with what would change, or the reason why nothing would."""

    row: BulkRow[R]
    facts: RowFacts
    changes: Sequence[Difference] = ()
    outcome: str = ""
    refusal: str = ""


@dataclass(frozen=True, kw_only=True)
class RowResult:
    """What became of one row, in values that a session can store.

    :param refusal: why the row was refused; empty if it was repaired.
    :param since: what had changed since the page was shown: time, change and actor of each.
    """

    pk: str
    name: str
    user: str
    partner: str
    refusal: str = ""
    since: Sequence[tuple[str, str, str]] = field(default_factory=list)

    @property
    def cells(self) -> Sequence[SafeString]:
        """The record, its user and its partner, as a page shows them."""
        return [display.visible(text) for text in (self.name, self.user, self.partner)]

    @property
    def moved(self) -> SafeString:
        """What had changed since the page was shown, one line for each change."""
        lines = ((display.moment(datetime.fromisoformat(at)), what, display.visible(actor, limit=60)) for at, what, actor in self.since)
        text = gettext("{} {} by {}")
        return format_html_join("", "<div>{}</div>", ((format_html(text, *line),) for line in lines))


@dataclass(frozen=True, kw_only=True)
class BulkRepairView(Generic[R]):
    """One request for a repair of many rows."""

    model_admin: ReadOnlyAdmin[Any]
    repair: Repair[R]
    request: HttpRequest

    def open(self, records: "QuerySet[Any]") -> HttpResponse:
        """Show the page for the rows that were chosen in the list, with their current versions."""
        found: list[R] = list(records.select_related(*self._related)[: MAX_ROWS + 1])
        rows = [BulkRow(pk=str(record.pk), version=self.repair.version(record), record=record) for record in found[:MAX_ROWS]]
        form = self.repair.form_class(record=None)
        return self._show(form, rows, with_preview=not form.has_details, has_more=len(found) > MAX_ROWS)

    def respond(self) -> HttpResponse:
        """Show the form, show the preview, or execute the repair, by the same rules as `RepairView`."""
        if "choose" in self.request.POST:
            return self.open(self._records(self.request.POST.getlist("choose")[:MAX_ROWS]))
        rows = self._submitted_rows()
        form = self.repair.form_class(self.request.POST, record=None)
        if not form.is_valid():
            return self._show(form, rows, with_preview=not form.has_details)
        if form.has_details and self.request.POST.get("confirm") != form.fingerprint:
            return self._show(form, rows, with_preview=True)
        return HttpResponseRedirect(self._keep_result([self._result(row, problem) for row, problem in self._execute(form, rows)]))

    def show_result(self) -> HttpResponse:
        """Show what became of the rows. The page can be loaded again and changes nothing; the session keeps the latest results."""
        stored = self.request.session.get(RESULTS, {}).get(self.request.GET.get("result", ""))
        results = None if stored is None else [RowResult(**row) for row in stored]
        context = {
            "title": self.repair.title,
            "is_kept": results is not None,
            "done": [result for result in results or () if not result.refusal],
            "refused": [result for result in results or () if result.refusal],
            "again": self._own_url,
            "back": self._list_url,
        }
        return self.model_admin.render(self.request, "admin/baskets/repaired_many.html", context)

    def _records(self, keys: Iterable[str]) -> "QuerySet[Any]":
        """The records with these keys. A text that cannot be a key of this table names none."""
        known = []
        for key in keys:
            try:
                known.append(self.model_admin.opts.pk.to_python(key))
            except Exception:  # noqa: BLE001, S112 (each kind of key refuses in its own way, and all mean the same)
                continue
        return self.model_admin.get_queryset(self.request).filter(pk__in=known).select_related(*self._related)

    @property
    def _related(self) -> Sequence[str]:
        """What the list reads with each row."""
        related = self.model_admin.list_select_related
        return related if isinstance(related, list | tuple) else ()

    def _submitted_rows(self) -> list[BulkRow[R]]:
        """Read the rows of the form. A key that this table cannot have counts as one whose record no longer exists."""
        versions = dict(text.rpartition(" ")[::2] for text in self.request.POST.getlist("row")[:MAX_ROWS])
        outcomes = dict(text.rpartition(" ")[::2] for text in self.request.POST.getlist("outcome")[:MAX_ROWS])
        limit = len(str(2**63))
        known = {pk: int(text) for pk, text in versions.items() if text.isascii() and text.isdigit() and len(text) < limit}
        records = {str(record.pk): record for record in self._records(known)}
        return [BulkRow(pk=pk, version=version, record=records.get(pk), outcome=outcomes.get(pk, "")) for pk, version in known.items()]

    def _execute(self, form: RepairForm, rows: Iterable[BulkRow[R]]) -> list[tuple[BulkRow[R], object]]:
        """Repair row by row.

        :returns: each row, and what has stopped its repair: a refusal, a sentence, or None.
        """
        # Rows may share one version: what an earlier row has changed must not make a later row stale.
        versions: dict[tuple[object, int], int] = {}
        return [(row, self._execute_row(form, row, versions)) for row in rows]

    def _execute_row(self, form: RepairForm, row: BulkRow[R], versions: dict[tuple[object, int], int]) -> object:
        """Repair one row.

        :param versions: by scope and shown version: the version that earlier rows have left behind.
        :returns: what has stopped the repair, or None.
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
            execution.require_outcome(self.repair, record, row.outcome)
            return self.repair.version(record)

        try:
            versions[scope] = execution.run(version_after)
        except (Refusal, execution.DatabaseBusy) as problem:
            return problem
        return None

    def _result(self, row: BulkRow[R], problem: object) -> RowResult:
        since = [(change.at.isoformat(), change.what, change.actor) for change in execution.changes_since(problem, what_happened)]
        user, partner = row.owner
        name = self.repair.label(row.record) if row.record else row.pk
        return RowResult(pk=row.pk, name=name, user=user, partner=partner, refusal=execution.refusal_text(problem), since=since)

    def _keep_result(self, results: Sequence[RowResult]) -> str:
        """Store a result in the session, and forget all but the latest.

        :returns: the address that shows it.
        """
        key = secrets.token_urlsafe(9)
        kept: dict[str, Any] = self.request.session.get(RESULTS, {}) | {key: [asdict(result) for result in results]}
        self.request.session[RESULTS] = dict(list(kept.items())[-MAX_RESULTS:])
        url = self._own_url
        return f"{url}{'&' if '?' in url else '?'}result={key}"

    def _show(self, form: RepairForm, rows: Sequence[BulkRow[R]], *, with_preview: bool, has_more: bool = False) -> HttpResponse:
        """Show the page: one form, and what would change in each row."""
        is_valid = form.is_bound and form.is_valid()
        is_confirmed = form.has_details and with_preview and is_valid
        at = Partner.objects.annotate(at=Now()).values_list("at", flat=True).first()
        facts = [self._facts(row, at) for row in rows]
        previews = [
            self._preview_row(form, row, each, is_valid=is_valid) if with_preview else RowPreview(row=row, facts=each)
            for row, each in zip(rows, facts, strict=True)
        ]
        context = {
            "title": self.repair.title,
            "description": self.repair.description,
            "form": form,
            "rows": previews,
            "refused": sum(bool(preview.refusal) for preview in previews),
            "is_previewed": with_preview,
            "has_more": has_more,
            "max_rows": MAX_ROWS,
            "confirm": form.fingerprint if is_confirmed else None,
            "submit": f"{self.repair.title}: {len(rows)}" if is_confirmed or not form.has_details else gettext("Show what will change"),
            "action": self._own_url,
            "back": self._list_url,
        }
        return self.model_admin.render(self.request, "admin/baskets/repair_many.html", context)

    def _facts(self, row: BulkRow[R], at: datetime | None) -> RowFacts:
        """Show whose a row is, its age at a time of the database's clock, and its total."""
        record: Any = row.record
        session = record if isinstance(record, CheckoutSession) else getattr(record, "session", None)
        since = session.started_at if session else record.last_changed_at if isinstance(record, Basket) else None
        user, partner = row.owner
        basket_id = record.pk if isinstance(record, Basket) else getattr(record, "basket_id", None)
        age = display.distance(since - at) if since and at else ""
        return RowFacts(
            name=display.visible(self.repair.label(record) if record else row.pk),
            user=display.basket(basket_id, user) if basket_id else display.NOTHING,
            partner=display.visible(partner),
            since=format_html('{}<br><span class="quiet">{}</span>', display.moment(since), age),
            total=display.money(session.full_price, session.currency) if session else display.NOTHING,
        )

    def _preview_row(self, form: RepairForm, row: BulkRow[R], facts: RowFacts, *, is_valid: bool) -> RowPreview[R]:
        """Run the repair of one row as a dry run."""
        if row.record is None:
            return RowPreview(row=row, facts=facts, refusal=str(execution.GONE))
        cleaned, reason = (form.details, form.cleaned_data["reason"]) if is_valid else ({}, PREVIEW_REASON)
        operation = make_operation(self.repair, self.request, row.record, cleaned=cleaned, expected_version=row.version, reason=reason)
        preview = execution.preview(self.repair, row.record, operation)
        return RowPreview(
            row=row,
            facts=facts,
            changes=[change for change in preview.changes if change.is_changed],
            outcome=execution.outcome_digest(self.repair, preview.after),
            refusal=execution.refusal_text(preview.obstacle),
        )

    @property
    def _filters(self) -> dict[str, Any]:
        """The filter of the list from which the rows come; every address of the page carries it."""
        return {"preserved_filters": self.model_admin.get_preserved_filters(self.request), "opts": self.model_admin.opts}

    @property
    def _own_url(self) -> str:
        url = reverse(f"admin:baskets_{self.model_admin.opts.model_name}_repair_many", args=[self.repair.slug])
        return str(add_preserved_filters(self._filters, url))

    @property
    def _list_url(self) -> str:
        return str(add_preserved_filters(self._filters, reverse(f"admin:baskets_{self.model_admin.opts.model_name}_changelist")))
