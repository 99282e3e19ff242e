"""Adds repairs to the admin of a model: their addresses, their links on the page of a record, and their actions in the list."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import interrupted
from baskets.admin.core.readonly import SAFE, ReadOnlyAdmin
from baskets.admin.repairs.bulk import BulkRepairView
from baskets.admin.repairs.definitions import NO_FACTS, KnownFacts, Repair, repair_links
from baskets.admin.repairs.views import RepairView

METHODS = ("GET", "HEAD", "POST")
ActionEntry = tuple[Callable[["RepairAdmin", HttpRequest, QuerySet[Any]], HttpResponse], str, str]


class RepairAdmin(ReadOnlyAdmin[Any]):
    """The read-only admin of a model whose records can be repaired."""

    repairs: ClassVar[Sequence[Repair[Any]]]
    has_list_actions = True

    def more_urls(self) -> list[URLPattern]:
        """Add the address of a repair of one record, and that of a repair of many."""
        name = f"baskets_{self.opts.model_name}"
        return [
            path("<path:object_id>/repair/<slug:slug>/", self.admin_site.admin_view(self.repair_view), name=f"{name}_repair"),
            path("repair/<slug:slug>/", self.admin_site.admin_view(self.bulk_repair_view), name=f"{name}_repair_many"),
        ]

    def tools(self, request: HttpRequest, record: Any) -> list[tuple[str, str]]:
        """List the available repairs."""
        return repair_links(self.repairs, request, record, self.known_facts(record))

    def known_facts(self, record: Any) -> KnownFacts:
        """Name what the query of this admin has read about a record."""
        return NO_FACTS

    @method_decorator(csrf_protect)
    def repair_view(self, request: HttpRequest, object_id: str, slug: str) -> HttpResponse:
        """Preview or execute a repair of one record.

        :raises Http404: there is neither such a repair nor such a record.
        :raises PermissionDenied: the user may not see the record or not do the repair.
        """
        repair = self._find(slug, self.repairs)
        if not request.user.has_perm(repair.permission):
            raise PermissionDenied
        record = self.found(request, object_id)
        if request.method not in METHODS:
            return HttpResponseNotAllowed(METHODS)
        return RepairView(model_admin=self, repair=repair, request=request, record=record).respond()

    # --- Many rows at once ---

    def bulk_repairs(self, request: HttpRequest) -> list[Repair[Any]]:
        """List the repairs of many rows that the user may do."""
        return [repair for repair in self.repairs if repair.is_bulk and request.user.has_perm(repair.permission)]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer the repairs of many rows as Django's list actions. An action only opens the page of the repair."""
        actions: dict[str, ActionEntry] = {
            repair.slug: (_open_bulk_repair, repair.slug, str(repair.title)) for repair in self.bulk_repairs(request)
        }
        return actions

    def may_post_to_list(self, request: HttpRequest) -> bool:
        """Allow a POST to the list if it has actions."""
        return bool(self.bulk_repairs(request))

    @method_decorator(csrf_protect)
    def bulk_repair_view(self, request: HttpRequest, slug: str) -> HttpResponse:
        """Preview or execute a repair of many rows.

        :raises Http404: the model has no such repair of many rows.
        :raises PermissionDenied: the user may not see the rows or not do the repair.
        """
        repair = self._find(slug, [repair for repair in self.repairs if repair.is_bulk])
        if not (self.has_view_permission(request) and request.user.has_perm(repair.permission)):
            raise PermissionDenied
        view = BulkRepairView(model_admin=self, repair=repair, request=request)
        if request.method in SAFE and "result" in request.GET:
            return view.show_result()
        if request.method == "GET" and (chosen := interrupted.chosen_rows(request)):
            return view.open(self._rows(request, chosen))
        return view.respond() if request.method == "POST" else HttpResponseNotAllowed(["POST"])

    def _rows(self, request: HttpRequest, keys: Sequence[str]) -> QuerySet[Any]:
        """The rows with these keys. A text of another form names no row."""
        known = []
        for key in keys:
            with suppress(ValidationError):
                known.append(self.opts.pk.to_python(key))
        return self.get_queryset(request).filter(pk__in=known)

    @staticmethod
    def _find(slug: str, repairs: Sequence[Repair[Any]]) -> Repair[Any]:
        for repair in repairs:
            if repair.slug == slug:
                return repair
        raise Http404


def _open_bulk_repair(model_admin: RepairAdmin, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
    repair = next(repair for repair in model_admin.bulk_repairs(request) if repair.slug == request.POST.get("action"))
    return BulkRepairView(model_admin=model_admin, repair=repair, request=request).open(rows)
