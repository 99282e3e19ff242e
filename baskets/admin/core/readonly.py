"""What every page of the desk has in common: it is looked at, and no form or address changes anything.

The named actions of the desk are in `partners` and `repairs`.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.options import IS_POPUP_VAR, TO_FIELD_VAR, IncorrectLookupParameters
from django.contrib.admin.utils import display_for_value, label_for_field, unquote
from django.contrib.admin.views.main import ALL_VAR, ERROR_FLAG, ORDER_VAR, PAGE_VAR, SEARCH_VAR
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.paginator import Paginator
from django.db import models
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display, exports, filters, interrupted
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.languages import Text
from baskets.admin.core.search import redirect_without_secret
from baskets.domain import audit_log, runner

M = TypeVar("M", bound=models.Model)
# What an address of a list may have beside its filters.
LIST_PARAMETERS = frozenset({ALL_VAR, ORDER_VAR, PAGE_VAR, SEARCH_VAR, ERROR_FLAG, IS_POPUP_VAR, TO_FIELD_VAR, "_facets"})
NO_FILTERS = SimpleNamespace(filter_specs=())
SAFE = ("GET", "HEAD")
EXPORT = "baskets.export_list"
# How many rows a list counts and lets one page through: beyond it, a search finds more than leafing does.
MAX_COUNTED = 1000


class CappedPaginator(Paginator):  # type: ignore[type-arg]  # Django's class takes no parameter at run time.
    """Counts no further than `MAX_COUNTED`, so that a list of a million rows opens as fast as a short one."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, or the cap."""
        rows: models.QuerySet[Any] = self.object_list  # type: ignore[assignment]  # Lists are made of nothing else.
        return rows.order_by().values("pk")[:MAX_COUNTED].count()


NOTHING = _("None.")


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table on a page: a title, its column heads and its rows.

    :param numeric: the columns of numbers, counted from 0: they are aligned on the right.
    """

    title: Text
    heads: Sequence[Text]
    rows: Sequence[Sequence[object]]
    numeric: Collection[int] = ()
    nothing: Text = NOTHING


class ReadOnlyAdmin(admin.ModelAdmin, Generic[M]):  # type: ignore[type-arg]  # As above.
    """Lists records and shows each on a separate page. The view permission is enough.

    It has no addresses for adding, changing, deleting or Django's own history: the timeline is the history. A page
    is put together from `shown`, and has no form, so that nothing can be posted to it.
    """

    actions = None
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    paginator = CappedPaginator
    max_counted = MAX_COUNTED
    has_list_actions = False
    # The fields and methods that make up the page of one record.
    shown: Sequence[str] = ()
    page_template = "admin/baskets/record.html"

    @property
    def media(self) -> forms.Media:
        """Only the script of the list's actions: the others serve edit forms, which no page here has."""
        return forms.Media(js=["admin/js/actions.js"] if self.has_list_actions else [])

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Refuse: rows are not added here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Refuse: rows are not changed here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Refuse: rows are not deleted here."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: M | None = None) -> bool:
        """Allow users with the view permission; the change permission does not count."""
        return bool(request.user.has_perm(f"baskets.view_{self.opts.model_name}"))

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest | None = None) -> bool:
        """Allow only the filters of the page in the address."""
        specs = self.list_filter
        return lookup in {name for spec in specs for name in getattr(spec, "parameter_names", (getattr(spec, "parameter_name", ""),))}

    def may_post_to_list(self, request: HttpRequest) -> bool:
        """Return whether the list accepts a POST. Only a list with repairs of many rows does."""
        return False

    def get_urls(self) -> list[URLPattern]:
        """Three addresses, and those of named actions: the list, what it shows as a file, and one record."""
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        return [
            *self.more_urls(),
            path("export/", self.admin_site.admin_view(self.export_view), name=f"{name}_export"),
            path("", self.admin_site.admin_view(self.changelist_view), name=f"{name}_changelist"),
            path("<path:object_id>/change/", self.admin_site.admin_view(self.change_view), name=f"{name}_change"),
        ]

    def more_urls(self) -> list[URLPattern]:
        """The addresses of further actions."""
        return []

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list."""
        if request.method not in SAFE and not (request.method == "POST" and self.may_post_to_list(request)):
            return HttpResponseNotAllowed(SAFE)
        if safe := redirect_without_secret(request, request.GET.get(SEARCH_VAR, "")):
            return safe
        title = str(self.opts.verbose_name_plural)
        context = {
            "title": title[:1].upper() + title[1:],
            "may_export": request.user.has_perm(EXPORT),
            "export_address": f"export/?{request.GET.urlencode()}",
            "most_exported": exports.MAX_EXPORTED_ROWS,
        }
        if unknown := [name for name in request.GET if not (name in LIST_PARAMETERS or self.lookup_allowed(name, "", request))]:
            return self._without_filters(request, unknown)
        response = super().changelist_view(request, context | (extra_context or {}))
        for title, value in filters.unknown_values(getattr(response, "context_data", {}).get("cl", NO_FILTERS)):
            messages.warning(
                request,
                gettext("The filter “%(filter)s” does not know the value “%(value)s”, so it filters nothing.")
                % {"filter": title, "value": display.as_plain_text(value)},
            )
        return response

    def _without_filters(self, request: HttpRequest, unknown: Sequence[str]) -> HttpResponse:
        """Lead to the same list without the parameters that it does not know, and name them."""
        names = ", ".join(f"“{display.as_plain_text(name)}”" for name in unknown)
        messages.warning(request, gettext("This list does not know the filter %(names)s. It is shown without it.") % {"names": names})
        known = request.GET.copy()
        for name in unknown:
            del known[name]
        return HttpResponseRedirect(f"{request.path}?{known.urlencode()}" if known else request.path)

    @method_decorator(csrf_protect)
    def export_view(self, request: HttpRequest) -> HttpResponse:
        """Respond with the list as a file, and record the export. The search and the filters are in the address."""
        if not (self.has_view_permission(request) and request.user.has_perm(EXPORT)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        try:
            changelist = self.get_changelist_instance(request)
            rows = list(self.exported_rows(changelist.queryset)[: exports.MAX_EXPORTED_ROWS])
        except IncorrectLookupParameters as error:
            raise Http404 from error
        columns = self.export_columns(request)
        actor, list_name, offered = staff_actor(request), str(self.opts.model_name), filters.offered_values(changelist)
        typed = {name: value if (name, value) in offered else audit_log.digest(value) for name, value in request.GET.dict().items()}
        query = typed | filters.defaults_in_force(changelist)
        runner.run(lambda: audit_log.record_export(list_name=list_name, rows=len(rows), query=query, actor=actor))
        return exports.as_csv(columns, rows, name=list_name)

    def exported_rows(self, rows: models.QuerySet[M]) -> models.QuerySet[M]:
        """Choose the rows of a file: those of the list."""
        return rows

    def export_columns(self, request: HttpRequest) -> exports.Columns:
        """Choose the columns of a file: those of the list."""
        return {
            name: (self._label(name), functools.partial(self._value, name))
            for name in map(str, self.get_list_display(request))
            if name != "action_checkbox"
        }

    @method_decorator(csrf_protect)
    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one record. The name is Django's; nothing is changed."""
        record = self.found(request, object_id)
        if request.method not in SAFE:
            return HttpResponseNotAllowed(SAFE)
        return self.render(request, self.page_template, self.page_context(request, record) | (extra_context or {}))

    def found(self, request: HttpRequest, object_id: str) -> M:
        """Find a record for a user who may see it.

        :raises PermissionDenied: the user may not see it.
        :raises Http404: there is no such record.
        """
        if not self.has_view_permission(request):
            raise PermissionDenied
        pk = unquote(object_id)
        related = self.list_select_related
        rows: models.QuerySet[M] = self.get_queryset(request).select_related(*(related if isinstance(related, Sequence) else ()))
        try:
            if "\x00" not in pk and (record := rows.filter(pk=pk).first()):
                return record
        except (ValueError, ValidationError, OverflowError):
            pass  # No key of this table looks like that.
        raise Http404

    def page_context(self, request: HttpRequest, record: M) -> dict[str, Any]:
        """Collect what the page of a record shows."""
        return {
            "title": str(self.opts.verbose_name)[:1].upper() + str(self.opts.verbose_name)[1:],
            "name": display.visible(self.label(record)),
            "rows": [(self._label(name), self._value(name, record)) for name in self.shown],
            "tables": self.tables(request, record),
            "tools": self.tools(request, record),
        }

    def label(self, record: M) -> object:
        """The name by which staff know a record, for the head of its page and the title of its tab."""
        return record

    def tables(self, request: HttpRequest, record: M) -> list[Table]:
        """Tables below the fields."""
        return []

    def tools(self, request: HttpRequest, record: M) -> list[tuple[str, str]]:
        """List the actions of the user for a record: address and label of each."""
        return []

    def render(self, request: HttpRequest, template: str, context: dict[str, Any], status: int = 200) -> HttpResponse:
        """Answer with a page of the admin."""
        request.current_app = self.admin_site.name
        interrupted.name_fields(request, context.get("form"))
        frame = {**self.admin_site.each_context(request), "opts": self.opts, "preserved_filters": self.get_preserved_filters(request)}
        return TemplateResponse(request, template, frame | context, status=status)

    def _label(self, name: str) -> str:
        label = str(label_for_field(name, self.model, self))
        return label[:1].upper() + label[1:]

    def _value(self, name: str, record: M) -> object:
        own: Callable[[M], object] | None = getattr(self, name, None)
        if own is not None:
            value = own(record)
            return display.NOTHING if value is None or value == "" else value
        field = self.opts.get_field(name)
        if isinstance(field, models.ForeignKey):
            return display.visible(getattr(record, name))
        value = getattr(record, name)
        if isinstance(field, models.Field) and field.choices:
            return record._get_FIELD_display(field)  # type: ignore[attr-defined]  # noqa: SLF001 (what Django offers)
        return shown_value(value)


def shown_value(value: object) -> object:
    """Show a stored value by its kind."""
    if value is None or value == "":
        return display.NOTHING
    if isinstance(value, bool):
        return display.yes_no(value)
    if isinstance(value, datetime):
        return display.moment(value)
    if isinstance(value, str):
        return display.visible(value)
    if isinstance(value, dict | list):
        return display.record(value) or display.NOTHING
    return display_for_value(value, display.NOTHING)
