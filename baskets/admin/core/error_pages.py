"""The pages of the admin for requests that it refuses: in words, with the way home. The API has its envelope instead."""

from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponseForbidden
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from baskets.admin.core.languages import Text

ADMIN_PREFIX = "/admin/"
# Of a response to a form whose token does not fit; see `csrf_failure`.
CSRF_FAILED = "csrf_failed"
OUTDATED_FORM: tuple[Text, tuple[Text, ...]] = (
    _("This form is outdated"),
    (
        _("The page with the form was opened before you signed in, or by another site. Nothing was done."),
        _("Open the page again, and send the form from there."),
    ),
)
# By status: the heading, and what it means for the user.
WORDS: dict[int, tuple[Text, tuple[Text, ...]]] = {
    400: (_("This address cannot be read"), (_("It has a filter or a value that the page does not know. Nothing was changed."),)),
    403: (
        _("You may not do this"),
        (
            _("Your role does not allow it. Nothing was changed, and the attempt is in the journal."),
            _("An administrator can change your role."),
        ),
    ),
    404: (
        _("This page does not exist"),
        (
            _("There is no such page or record. An order may have been purged, and an erased user has another name."),
            _("The search finds deleted and expired baskets as well."),
        ),
    ),
    405: (
        _("This page opens from its form only"),
        (_("Its address alone is not enough. Nothing was changed: open the list or the record, and start there."),),
    ),
    413: (_("This form is too large"), (_("Nothing was changed. Send fewer rows or a shorter text."),)),
    500: (
        _("Something went wrong"),
        (_("The service has recorded the error. Look at the record before you try again: part of the work may be done."),),
    ),
    503: (
        _("The database does not answer"),
        (_("The service works again as soon as the database does. Look at the record before you repeat a change: it may have been made."),),
    ),
}


# Another cell publishes what would change: a conflict with the state of this one.
PUBLISHED_ELSEWHERE = HTTPStatus.CONFLICT
GetResponse = Callable[[HttpRequest], Any]


class ErrorPages:
    """Middleware that gives every refused request of the admin a page, except those whose view has rendered one.

    The status, the headers and the record of the response stay.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request."""
        response = self.get_response(request)
        if request.path_info.startswith(ADMIN_PREFIX) and response.status_code in WORDS and not isinstance(response, TemplateResponse):
            response.content = render_error(request, response.status_code, outdated_form=hasattr(response, CSRF_FAILED))
            response.headers["Content-Type"] = "text/html; charset=utf-8"
        return response


def render_error(request: HttpRequest, status: int, *, outdated_form: bool = False) -> str:
    """Render the page of a status.

    After an error of the service, and for a form that was not read, it asks the database nothing, and names no user.

    :param outdated_form: whether the token of the form did not fit.
    """
    heading, sentences = OUTDATED_FORM if outdated_form else WORDS[status]
    context = {"title": heading, "sentences": sentences, "request_id": request.META.get("baskets.request_id", ""), "ways": []}
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return render_to_string(
            "admin/baskets/error.html", context | {"site_title": admin.site.site_title, "site_header": admin.site.site_header}
        )
    if admin.site.has_permission(request):
        context["ways"] = _ways(request, outdated_form=outdated_form)
    return render_to_string("admin/baskets/error.html", {**admin.site.each_context(request), **context}, request)


def render_published_elsewhere(request: HttpRequest, *, cell: int, way: tuple[str, str]) -> str:
    """Render the page of a change that belongs to another cell.

    :param cell: the one that publishes.
    :param way: the address and the text of the link to it.
    """
    context = {
        "title": gettext("This is changed in cell %(cell)s") % {"cell": cell},
        "sentences": (gettext("That cell publishes products, partners, keys and staff to all others. Nothing was changed here."),),
        "request_id": request.META.get("baskets.request_id", ""),
        "ways": [way, *_ways(request, outdated_form=False)],
    }
    return render_to_string("admin/baskets/error.html", {**admin.site.each_context(request), **context}, request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponseForbidden:
    """Refuse a form whose token does not fit. `ErrorPages` gives it its page."""
    del request, reason
    response = HttpResponseForbidden()
    setattr(response, CSRF_FAILED, True)
    return response


def _ways(request: HttpRequest, *, outdated_form: bool) -> list[tuple[str, str]]:
    """Where to go from here: the form again, the list, the first page."""
    ways = [(reverse("admin:index"), gettext("Overview"))]
    match = request.resolver_match
    parts = (match.url_name or "").split("_") if match else []
    if len(parts) > 2 and request.user.has_perm(f"{parts[0]}.view_{parts[1]}"):
        with suppress(NoReverseMatch):  # Pages outside of lists, such as the change of a password, have none.
            ways.insert(0, (reverse(f"admin:{parts[0]}_{parts[1]}_changelist"), gettext("The list")))
    return [(request.path, gettext("Open the page again")), *ways] if outdated_form else ways
