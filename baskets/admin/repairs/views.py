"""The page of one repair of one record: a GET shows what would change, a POST with the same values makes the change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic

from django.contrib import messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import ObjectDoesNotExist
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from baskets.admin.core import display
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.repairs import execution, registry, snapshots
from baskets.admin.repairs.assignment import AssignmentShown, show_assignment
from baskets.admin.repairs.definitions import BasketScopedRepair, R, Repair, make_operation, repair_links
from baskets.admin.repairs.forms import PREVIEW_REASON, AssignmentForm, RepairForm, fingerprint
from baskets.domain.errors import Refusal
from baskets.domain.support import attention_repairs, guards


@dataclass(frozen=True, kw_only=True)
class RepairView(Generic[R]):
    """One request for a repair of one record."""

    model_admin: ReadOnlyAdmin[Any]
    repair: Repair[R]
    request: HttpRequest
    record: R

    def respond(self) -> HttpResponse:
        """Show the form, show the preview, or execute the repair.

        A form that has default details, or none, shows its preview at once. A form with details is executed only if the preview
        was shown for the same values.
        """
        if self.request.method != "POST":
            form = self._fresh_form()
            return self._show(form, with_preview=form.default_details is not None)
        form = self.repair.form_class(self.request.POST, record=self.record)
        if not form.is_valid():
            return self._show(form, with_preview=form.default_details is not None)
        if form.has_details and self.request.POST.get("confirm") != form.fingerprint:
            return self._show(form, with_preview=True)
        return self._execute(form)

    def _execute(self, form: RepairForm) -> HttpResponse:
        """Execute the repair. If it is refused, show why and the current state, so that staff can decide again."""
        reason, expected_version = form.cleaned_data["reason"], form.cleaned_data["seen"]
        operation = make_operation(
            self.repair, self.request, self.record, cleaned=form.details, expected_version=expected_version, reason=reason
        )
        try:
            changed = execution.run(lambda: self._require_confirmed_outcome(operation()))
        except Refusal as refusal:
            return self._show_refused(form, refusal)
        except execution.DatabaseBusy as busy:
            return self._show(form, with_preview=False, problem=str(busy), status=503)
        done = format_html("{}", self.repair.done)
        filters: dict[str, Any] = {"preserved_filters": self.model_admin.get_preserved_filters(self.request), "opts": self.model_admin.opts}
        if filters["preserved_filters"]:
            name = f"admin:baskets_{self.model_admin.opts.model_name}_changelist"
            done = format_html('{} <a href="{}">{}</a>', done, add_preserved_filters(filters, reverse(name)), gettext("Back to the list"))
        messages.success(self.request, done)
        return HttpResponseRedirect(self._return_url or self.repair.back_url(changed or self.record))

    @property
    def _return_url(self) -> str:
        """The page on which a button without a form was pressed; empty for none, or for one outside."""
        url = self.request.POST.get("next", "")
        is_here = url_has_allowed_host_and_scheme(url, allowed_hosts={self.request.get_host()}, require_https=self.request.is_secure())
        return url if is_here else ""

    def _require_confirmed_outcome(self, changed: R | None) -> R | None:
        """Return what the repair has returned, if its outcome is the one that the preview has shown.

        :raises StaleState: the outcome differs; the transaction is rolled back.
        """
        execution.require_outcome(self.repair, self.record, self.request.POST.get("outcome", ""))
        return changed

    def _show_refused(self, form: RepairForm, refusal: Refusal) -> HttpResponse:
        """Show a refusal with the current state; without it, if the record no longer exists."""
        try:
            return self._show(self._renewed(form), with_preview=True, problem=refusal, status=409)
        except ObjectDoesNotExist:
            return self._show(form, with_preview=False, problem=refusal, status=409)

    def _fresh_form(self) -> RepairForm:
        """Make an empty form for the current version."""
        return self.repair.form_class(initial={"seen": self.repair.version(self.record)}, record=self.record)

    def _renewed(self, form: RepairForm) -> RepairForm:
        """Make the same form for the current version."""
        data = self.request.POST.copy()
        data["seen"] = str(self.repair.version(self.record))
        renewed = type(form)(data, record=self.record)
        renewed.is_valid()
        return renewed

    def _show(self, form: RepairForm, *, with_preview: bool, problem: Refusal | str | None = None, status: int = 200) -> HttpResponse:
        """Show the page: the form, and what would change."""
        form = self._renewed(form) if form.is_bound and with_preview else form
        preview = self._preview(form) if with_preview else execution.Preview()
        changes = preview.changes
        if preview.obstacle is not None:
            changes = snapshots.differences(self.repair.snapshot(self.record), None)
        is_possible = not isinstance(preview.obstacle, Refusal)
        details = self._previewed_details(form) if is_possible and with_preview and form.has_details else None
        context = {
            "title": self.repair.title,
            "name": display.visible(self.repair.label(self.record)),
            "record": self.record,
            "description": self.repair.description,
            "form": form,
            "changes": changes,
            "problem": execution.refusal_text(problem),
            "since": _changes_since(problem),
            "obstacle": execution.refusal_text(preview.obstacle),
            "confirm": None if details is None else fingerprint(details),
            "outcome": execution.outcome_digest(self.repair, preview.after),
            "is_previewed": preview.obstacle is None,
            "is_possible": is_possible,
            "submit": self.repair.title if details is not None or not form.has_details else gettext("Show what will change"),
            "notice": form.notice if is_possible else "",
            "instead": self._instead(problem, preview.obstacle),
            "next": self._return_url,
            "assignment": self._assignment(form),
            "back": self.repair.back_url(self.record),
        }
        return self.model_admin.render(self.request, "admin/baskets/repair.html", context, status=status)

    def _instead(self, *problems: object) -> tuple[str, str] | None:
        """Link to the repair of the checkout that a refusal names instead, where the user may make it."""
        slugs = {problem.instead for problem in problems if isinstance(problem, guards.RepairNotApplicable) and problem.instead}
        if not slugs or not isinstance(self.repair, BasketScopedRepair) or (checkout := self.repair.checkout(self.record)) is None:
            return None
        return next(iter(repair_links(registry.SESSION_REPAIRS, self.request, checkout, only=slugs)), None)

    def _assignment(self, form: RepairForm) -> AssignmentShown | None:
        """Whose case the checkout is, unless this page is the one to change it."""
        if not isinstance(self.repair, BasketScopedRepair) or self.repair.form_class is AssignmentForm:
            return None
        checkout = self.repair.checkout(self.record)
        if checkout is None:
            return None
        assignee = attention_repairs.assignee_of(checkout)
        return show_assignment(self.request, checkout, assignee=assignee, seen=form["seen"].value())

    def _preview(self, form: RepairForm) -> execution.Preview:
        """Run the repair as a dry run, unless details are missing."""
        details = self._previewed_details(form)
        if details is None:
            return execution.Preview()
        operation = make_operation(
            self.repair,
            self.request,
            self.record,
            cleaned=details,
            expected_version=self.repair.version(self.record),
            reason=PREVIEW_REASON,
        )
        return execution.preview(self.repair, self.record, operation)

    @staticmethod
    def _previewed_details(form: RepairForm) -> dict[str, Any] | None:
        """The details that a preview shows: those of a valid form, else its defaults; None where details are missing."""
        return form.details if form.is_bound and form.is_valid() else form.default_details


def _changes_since(problem: object) -> Sequence[SafeString]:
    """List what has changed since the page was loaded, one line for each change."""
    return [
        format_html(gettext("{} {} by {}"), display.moment(change.at), change.what, display.actor_name(change.actor))
        for change in execution.changes_since(problem, registry.what_happened)
    ]
