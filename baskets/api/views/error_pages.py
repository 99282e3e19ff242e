"""The responses to unknown addresses and to errors outside of DRF: the envelope for the API, Django's pages for the admin."""

import sys

import structlog
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from baskets.api.exceptions import RETRY_AFTER_SECONDS, error_response
from baskets.api.middleware import ADMIN
from baskets.db.errors import Fault, fault_of, is_stale_plan
from baskets.error_summary import sqlstate_of, summarize_error

log = structlog.get_logger("baskets.api")


@csrf_exempt
def not_found(request: HttpRequest) -> HttpResponse:
    """Respond to every path that matches no other pattern."""
    del request
    return error_response("not_found")


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Respond to a request that Django refuses."""
    return defaults.bad_request(request, exception) if _in_admin(request) else error_response("bad_request")


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Respond to a request without permission."""
    return defaults.permission_denied(request, exception) if _in_admin(request) else error_response("forbidden")


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Respond to a request for a page or record that does not exist."""
    return defaults.page_not_found(request, exception) if _in_admin(request) else error_response("not_found")


def handler500(request: HttpRequest) -> HttpResponse:
    """Respond to an unexpected error. Staff get a 503 if the database failed: the error is temporary."""
    if not _in_admin(request):
        return error_response("internal_error")
    response = defaults.server_error(request)
    error = sys.exc_info()[1]  # Django calls this while it handles the error.
    if error is None:
        return response
    if fault_of(error) is Fault.INTERNAL:
        log.error("unforeseen_error", sqlstate=sqlstate_of(error), **summarize_error(error))
    else:
        if is_stale_plan(error):
            connection.close()  # Its statements would fail for every further page.
        response.status_code = 503
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def _in_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith(ADMIN)
