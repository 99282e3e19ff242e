"""The gate in front of every page of the admin: it requires second factors, explains ended sessions, and records refusals."""

from collections.abc import Callable
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext, ngettext

from baskets import conf
from baskets.admin.auth.login import VERIFIED, device_account
from baskets.admin.core import display, interrupted
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.error_pages import CSRF_FAILED
from baskets.domain import audit_log, runner
from baskets.domain.staff import second_factor, sessions
from baskets.models import DeskEntry

ADMIN_PREFIX = "/admin/"


class StaffGate:
    """Middleware, behind sessions, authentication and messages. It reads the roles at each request, so changes take effect at once."""

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request."""
        if not request.path_info.startswith(ADMIN_PREFIX):
            return self.get_response(request)
        if request.user.is_anonymous:
            explain_end(request)
            response = self.get_response(request)
            if request.method == "POST" and response.headers.get("Location", "").startswith(f"{reverse('admin:login')}?"):
                explain_refused_form(request)
            return response
        if redirect := missing_factor(request):
            return redirect
        kept = interrupted.take(request) if request.method == "GET" else None
        request.interrupted = kept  # type: ignore[attr-defined]  # For templates and for pages that open by a POST only.
        with display.for_user(request.user):
            response = self.get_response(request)
        if response.status_code == HTTPStatus.FORBIDDEN:
            record_refusal(request)
            if hasattr(response, CSRF_FAILED) and request.headers.get("Sec-Fetch-Site") == "same-origin":
                interrupted.keep(request, account=request.user.pk)
        elif response.status_code == HTTPStatus.METHOD_NOT_ALLOWED and kept and (page := interrupted.move(request, kept)):
            return HttpResponseRedirect(page)
        return response


def missing_factor(request: HttpRequest) -> HttpResponse | None:
    """Redirect a member of staff without a verified second factor to the page for it.

    :returns: the redirect; None if no second factor is missing.
    """
    account: Any = request.user
    open_pages = [reverse(name) for name in ("admin:login", "admin:logout", "admin:jsi18n", "staff:code", "staff:enrol")]
    if not account.is_staff or VERIFIED in request.session or request.path in open_pages:
        return None
    if second_factor.is_enrolled(account):
        page = "staff:code"
    elif second_factor.is_required(account):
        page = "staff:enrol"
    else:
        return None
    target = request.get_full_path() if request.method == "GET" else reverse("admin:index")
    return HttpResponseRedirect(f"{reverse(page)}?{urlencode({'next': target})}")


def explain_end(request: HttpRequest) -> None:
    """Show on the next page why a session has ended, if that is known."""
    key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not key or (request.method != "GET" and request.path == reverse("admin:login")):
        return
    reason, name = sessions.end_reason(key)
    sentences = {
        sessions.ENDED_EARLY: gettext("You were signed out: %(name)s ended this session.") % {"name": name},
        sessions.ENDED_IDLE: gettext("You were signed out: there was no request for %(time)s.")
        % {"time": _hours_or_minutes(conf.staff_idle_timeout())},
        sessions.ENDED_OLD: gettext("You were signed out: a session lasts %(time)s at most.")
        % {"time": _hours_or_minutes(conf.staff_session_lifetime())},
    }
    if reason:
        messages.warning(request, sentences[reason])


def explain_refused_form(request: HttpRequest) -> None:
    """Keep a form that was sent without a session, and say on the sign-in page that nothing was done."""
    if interrupted.keep(request, account=device_account(request)):
        messages.warning(request, gettext("Nothing was done yet. Sign in, and the form shows again with what you typed."))
    else:
        messages.warning(request, gettext("Nothing was done yet. Sign in, and do it again."))


def record_refusal(request: HttpRequest) -> None:
    """Record a refused page. The entry has the name of the page and not its address, which may contain a user id."""
    match = request.resolver_match
    data = {"page": match.view_name if match else "", "method": request.method}
    account: Any = request.user
    actor = staff_actor(request)
    runner.run(audit_log.record_access, kind=DeskEntry.Kind.REFUSED, account=account, data=data, actor=actor)


def _hours_or_minutes(length: timedelta) -> str:
    minutes = round(length.total_seconds() / 60)
    if minutes % 60 == 0 and minutes:
        return ngettext("%(number)s hour", "%(number)s hours", minutes // 60) % {"number": minutes // 60}
    return ngettext("%(number)s minute", "%(number)s minutes", minutes) % {"number": minutes}
