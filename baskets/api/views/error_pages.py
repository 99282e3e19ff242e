"""Addresses that lead nowhere and Django's last resorts: the envelope for the API, Django's own pages for the admin."""

import sys

import structlog
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from baskets.api.exceptions import RETRY_AFTER_SECONDS, answer
from baskets.api.middleware import ADMIN
from baskets.db.errors import Fault, fault_of, plans_outdated, sqlstate_of
from baskets.error_summary import described

log = structlog.get_logger("baskets.api")


@csrf_exempt
def not_found(request: HttpRequest) -> HttpResponse:
    """Answer for every path that no other address has taken."""
    del request
    return answer("not_found")


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer a request that Django itself refuses."""
    return defaults.bad_request(request, exception) if _in_admin(request) else answer("bad_request")


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer what is not allowed."""
    return defaults.permission_denied(request, exception) if _in_admin(request) else answer("forbidden")


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for what is not there."""
    return defaults.page_not_found(request, exception) if _in_admin(request) else answer("not_found")


def handler500(request: HttpRequest) -> HttpResponse:
    """Answer what nobody foresaw; to staff, a failing database as what it is: something that passes."""
    if not _in_admin(request):
        return answer("internal_error")
    response = defaults.server_error(request)
    error = sys.exc_info()[1]  # Django calls this while it handles the error.
    if error is None:
        return response
    if fault_of(error) is Fault.BUG:
        log.error("unforeseen_error", sqlstate=sqlstate_of(error), **described(error))
    else:
        if plans_outdated(error):
            connection.close()  # It would fail for every page to come.
        response.status_code = 503
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def _in_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith(ADMIN)
