"""Addresses that lead nowhere and Django's last resorts: the envelope for the API, Django's own pages for the admin."""

from django.http import HttpRequest, HttpResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt

from baskets.api.errors import answer
from baskets.api.middleware import ADMIN


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
    """Answer what nobody foresaw."""
    return defaults.server_error(request) if _in_admin(request) else answer("internal_error")


def _in_admin(request: HttpRequest) -> bool:
    return request.path_info.startswith(ADMIN)
