"""The first page of the admin: what needs attention, how sales go, and whether the service is well.

Every number comes from an index or from the counts that `domain.events.activity` keeps, so the page costs the same however many
baskets there are. See `baskets/docs/adr/0045-counts-for-the-first-page.md`.
"""

from django.contrib import admin
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.template.response import TemplateResponse
from django.utils.translation import gettext

from baskets.admin.core import display
from baskets.admin.core.readonly import SAFE
from baskets.admin.home.figures import WINDOWS, figures
from baskets.admin.home.health import list_health
from baskets.admin.home.moment import Moment
from baskets.admin.home.open_work import list_work
from baskets.db.errors import Fault, fault_of
from baskets.domain.events import activity

# Events that one load of the page counts: a sweep counts what is more, and the page says how far the counts are.
MAX_COUNTED = 250


def home_page(request: HttpRequest) -> HttpResponse:
    """Show the first page of the admin."""
    if request.method not in SAFE:
        return HttpResponseNotAllowed(SAFE)
    may_see_figures = request.user.has_perm("baskets.view_checkoutsession")
    if may_see_figures:
        _count_new_events()
    moment = Moment.read()
    name = request.GET.get("window", "")
    window = WINDOWS.get(name, WINDOWS["hour"])
    context = {
        **admin.site.each_context(request),
        "title": admin.site.index_title,
        "subtitle": None,
        "at": display.moment(moment.at),
        "windows": [(key, each.label, each is window) for key, each in WINDOWS.items()],
        "window": window.label,
        "work": [(each, display.distance(each.oldest - moment.at) if each.oldest else "") for each in list_work(request, moment)],
        "may_open_work_list": request.user.has_perm("baskets.view_attention"),
        "health": list_health(request, moment),
        "may_see_figures": may_see_figures,
        **(figures(request, moment, window) if may_see_figures else {}),
    }
    request.current_app = admin.site.name
    return TemplateResponse(request, "admin/index.html", context)


def records_page(request: HttpRequest) -> HttpResponse:
    """List all tables that the user may see."""
    if request.method not in SAFE:
        return HttpResponseNotAllowed(SAFE)
    context = {**admin.site.each_context(request), "title": gettext("All records"), "app_list": admin.site.get_app_list(request)}
    request.current_app = admin.site.name
    return TemplateResponse(request, "admin/baskets/records.html", context)


def _count_new_events() -> None:
    """Count a few new events. The page shows how far the counts are where the database cannot take writes now."""
    try:
        activity.count_events(batches=1, size=MAX_COUNTED)
    except DatabaseError as error:
        if fault_of(error) is Fault.INTERNAL:
            raise
