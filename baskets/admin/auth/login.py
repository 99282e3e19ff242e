"""The sign-in of staff: limits on guessing passwords, known devices, and what is recorded. Codes are in `baskets.admin.auth.account`."""

import math
import secrets
import threading
from typing import Any

import structlog
from django.conf import settings
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth import login as auth_login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect
from django.utils.translation import gettext, ngettext

from baskets import conf
from baskets.admin.core.actors import staff_actor
from baskets.domain import audit_log, runner
from baskets.domain.access import rate_limits
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.staff import second_factor, sessions
from baskets.models import DeskEntry
from baskets.net.client_address import client_source

log = structlog.get_logger("baskets.admin")

# Set in a session once its second factor was checked.
VERIFIED = "second_factor"
DEVICE_COOKIE = "desk_device"
DEVICE_SALT = "baskets.admin.device"
DEVICE_SECONDS = 180 * 24 * 60 * 60
# A source may be an office, and a name may be typed from many sources: their limits are so many times that of one name from one source.
SHARED_FACTOR = 5
# A password costs a tenth of a second of a core to check. One is checked at a time in a process, and one more waits: callers who
# try passwords leave the other threads to the shop.
CHECK_SLOTS = threading.BoundedSemaphore(2)
HASH_LOCK = threading.Lock()


class LoginForm(AdminAuthenticationForm):
    """Checks name and password, unless there were too many failed attempts.

    Note [Limits on guessing]: failures count for a name and a source together, for a source whatever the names, and for a name
    wherever from. The last limit stops guessing from many sources. It does not apply to a source from which the account has signed
    in before, and none of the three applies to a device that has: its failures are counted apart. So an attacker who fails on purpose
    keeps a member of staff out of new devices at new places, and of nothing else.

    An attempt is counted before the password is checked, so that parallel attempts count as well, and the count is taken back when
    the password was right. A refused attempt does not count.
    """

    request: HttpRequest

    def clean(self) -> dict[str, Any]:
        """Check name and password.

        :raises ValidationError: they are wrong, or it is too early to try again.
        """
        name = str(self.cleaned_data.get("username", ""))
        account = User.objects.filter(username=name).first() if "\x00" not in name else None
        counted = self._count(name, account) if conf.login_failures() else []
        if not CHECK_SLOTS.acquire(blocking=False):
            for subject in counted:
                rate_limits.undo_hit(subject=subject)
            raise ValidationError(gettext("Many people are signing in just now. Try again in a few seconds."), code="busy")
        try:
            with HASH_LOCK:
                signed_in = super().clean()
        except ValidationError:
            record_failure(self.request, account, step="password")
            raise
        finally:
            CHECK_SLOTS.release()
        for subject in counted:
            rate_limits.undo_hit(subject=subject)
        return signed_in

    def _count(self, name: str, account: User | None) -> list[str]:
        """Count this attempt, and return what it was counted for.

        :raises ValidationError: there were too many.
        """
        limit, window, source = conf.login_failures(), conf.login_window(), client_source(self.request)
        if device := known_device(self.request, account):
            subject = rate_limits.anonymous_subject("login-device", device)
            if rate_limits.hit(subject=subject, limit=limit, window=window) is None:
                return [subject]
        folded = name.casefold()
        by_source = rate_limits.anonymous_subject("login-source", source)
        by_pair = rate_limits.anonymous_subject("login-pair", f"{source} {folded}")
        by_name = rate_limits.anonymous_subject("login-name", folded)
        counted: list[str] = []
        for subject, most in ((by_source, limit * SHARED_FACTOR), (by_pair, limit), (by_name, limit * SHARED_FACTOR)):
            seconds = rate_limits.hit(subject=subject, limit=most, window=window)
            if seconds is None:
                counted.append(subject)
            elif subject != by_name or account is None or not audit_log.has_signed_in_from(account=account, source=source):
                for earlier in counted:
                    rate_limits.undo_hit(subject=earlier)
                log.warning("login_slowed", seconds=seconds, source=source, account=account and account.pk)
                refusal = gettext("There were too many attempts to sign in.")
                raise ValidationError(f"{refusal} {try_again(seconds)}", code="slowed")
        return counted


class SignIn(LoginView):
    """The sign-in page. An address to continue at that leads elsewhere is ignored: the first page of the admin follows."""

    authentication_form = LoginForm
    template_name = "admin/login.html"
    next_page = "admin:index"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the form, unless the caller is signed in."""
        return redirect("admin:index") if admin.site.has_permission(request) else super().get(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add what Django's own sign-in page of the admin shows."""
        own = {
            "title": gettext("Log in"),
            "subtitle": None,
            "app_path": self.request.get_full_path(),
            "username": self.request.user.get_username(),
        }
        return {**admin.site.each_context(self.request), **super().get_context_data(**kwargs), **own}

    def form_valid(self, form: Any) -> HttpResponse:
        """Start a session, and complete the sign-in if no second factor is required."""
        account = form.get_user()
        auth_login(self.request, account)
        browser = self.request.headers.get("User-Agent", "")
        sessions.record_sign_in(session=self.request.session, source=client_source(self.request), browser=browser)
        response = HttpResponseRedirect(self.get_success_url())
        if not (second_factor.is_enrolled(account) or second_factor.is_required(account)):
            complete_sign_in(self.request, response)
        return response


def complete_sign_in(request: HttpRequest, response: HttpResponse) -> None:
    """Record a sign-in that needs nothing more, and make the device known."""
    account: Any = request.user
    data = {"source": client_source(request), "second_factor": VERIFIED in request.session}
    _record(DeskEntry.Kind.SIGNED_IN, account, data, staff_actor(request))
    response.set_cookie(
        DEVICE_COOKIE,
        signing.dumps([account.pk, secrets.token_urlsafe(12)], salt=DEVICE_SALT),
        max_age=DEVICE_SECONDS,
        path=settings.SESSION_COOKIE_PATH,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def record_failure(request: HttpRequest, account: User | None, *, step: str) -> None:
    """Record a failed sign-in.

    :param account: the account whose name was given; None where there is none.
    :param step: `password` or `code`.
    """
    actor = Actor(kind=ActorKind.SYSTEM, name="sign-in", request_id=str(request.META.get("baskets.request_id", "")))
    _record(DeskEntry.Kind.SIGN_IN_FAILED, account, {"source": client_source(request), "step": step}, actor)


def known_device(request: HttpRequest, account: User | None) -> str:
    """Return the name of the device if the account has signed in on it, else an empty string."""
    owner, device = _read_device(request)
    return str(device) if account is not None and owner == account.pk else ""


def device_account(request: HttpRequest) -> int | None:
    """Return the primary key of the account that has signed in last on this device; None where no account has."""
    owner, _ = _read_device(request)
    return owner


def _read_device(request: HttpRequest) -> tuple[int | None, str]:
    try:
        owner, device = signing.loads(request.COOKIES.get(DEVICE_COOKIE, ""), salt=DEVICE_SALT, max_age=DEVICE_SECONDS)
    except (signing.BadSignature, ValueError, TypeError):
        return None, ""
    return owner, str(device)


def try_again(seconds: int) -> str:
    """Say when to try again."""
    minutes = math.ceil(seconds / 60)
    return ngettext("Try again in %(number)s minute.", "Try again in %(number)s minutes.", minutes) % {"number": minutes}


def _record(kind: DeskEntry.Kind, account: User | None, data: dict[str, Any], actor: Actor) -> None:
    runner.run(audit_log.record_access, kind=kind, account=account, data=data, actor=actor)
