"""The pages on which staff see and change their own access: password, second factor, sessions. Superusers see those of others."""

from collections.abc import Callable
from typing import Any, TypeVar

import segno
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.forms import AdminPasswordChangeForm
from django.contrib.auth.models import User
from django.contrib.auth.views import PasswordChangeView, RedirectURLMixin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse, reverse_lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.generic import FormView

from baskets.admin.auth.login import VERIFIED, complete_sign_in, record_failure, try_again
from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.languages import Text
from baskets.admin.core.refusals import translated
from baskets.domain import runner
from baskets.domain.errors import Refusal
from baskets.domain.staff import rights, second_factor
from baskets.domain.staff import sessions as staff_sessions
from baskets.encryption import UnreadableSecret, decrypt_token, encrypt_token
from baskets.models import SecondFactor, StaffSession

T = TypeVar("T")
# In a session: the secret that its enrolment page shows, encrypted, because a reader of the database can read sessions.
OFFERED_SECRET = "offered_secret"  # noqa: S105 (the name of a session value)
QR_SCALE = 5


class CodeForm(forms.Form):
    """One code."""

    code = forms.CharField(
        max_length=40,
        label=_("Code"),
        help_text=_("The six digits that your authenticator app shows now."),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autofocus": True, "spellcheck": "false"}),
    )


class CodeOrRecoveryForm(CodeForm):
    """A code of who has a second factor, but perhaps the phone no more."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["code"].help_text = gettext("The six digits that your authenticator app shows now, or one of your recovery codes.")


class CodeView(FormView):  # type: ignore[type-arg]  # Django's class takes no parameter at run time.
    """A page of the account with a form that takes one code."""

    form_class: Any = CodeForm
    title: Text = ""
    submit: Text = ""
    # Whether the page belongs to the sign-in, so that it leads nowhere else.
    is_sign_in = False

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the frame of the admin."""
        frame = admin.site.each_context(self.request)
        if self.is_sign_in:
            frame |= {"has_permission": False, "is_nav_sidebar_enabled": False, "available_apps": []}
        return {**frame, **super().get_context_data(**kwargs), "title": self.title, "submit": self.submit}

    @property
    def account(self) -> Any:
        """The account of the caller."""
        return self.request.user

    def is_right(self, form: CodeForm) -> bool:
        """Check the code of the form, and say on the form why it is refused."""
        code, actor = form.cleaned_data["code"], staff_actor(self.request)
        self.attempt(form, lambda: second_factor.verify(account=self.account, code=code, actor=actor))
        return form.is_valid()

    def attempt(self, form: CodeForm, operation: Callable[[], T]) -> T | None:
        """Run a domain call that checks a code. Show a refusal on the form, and record a wrong code as a failed sign-in.

        :returns: what the call returns, or None where it is refused.
        """
        try:
            return operation()
        except second_factor.TooManyCodes as refusal:
            form.add_error("code", f"{translated(refusal)} {try_again(refusal.seconds)}")
        except Refusal as refusal:
            form.add_error("code", translated(refusal))
            record_failure(self.request, self.account, step="code")
        return None


class ConfirmCode(RedirectURLMixin, CodeView):
    """The second step of the sign-in."""

    template_name = "admin/baskets/code.html"
    title, submit, is_sign_in = _("Second step"), _("Sign in"), True
    next_page = "admin:index"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Redirect users who need no code."""
        account: Any = request.user
        if not account.is_authenticated or VERIFIED in request.session or not second_factor.is_enrolled(account):
            return redirect("admin:index")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: CodeForm) -> HttpResponse:
        """Check the code, and complete the sign-in."""
        if not self.is_right(form):
            return self.form_invalid(form)
        self.request.session.cycle_key()
        self.request.session[VERIFIED] = True
        response = HttpResponseRedirect(self.get_success_url())
        complete_sign_in(self.request, response)
        return response


class Enrol(RedirectURLMixin, CodeView):
    """Sets up the second factor: shows a new secret, and takes it once a code proves that the app has it."""

    template_name = "admin/baskets/enrol.html"
    title, submit = _("Set up the second factor"), _("Set up")
    next_page = "staff:account"

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Redirect users who have a second factor, or are not signed in."""
        account: Any = request.user
        if not admin.site.has_permission(request) or second_factor.is_enrolled(account):
            return redirect("admin:index")
        self.is_sign_in = second_factor.is_required(account)
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the secret, as text and as a picture."""
        secret = self._secret()
        uri = second_factor.provisioning_uri(secret=secret, account=self.account)
        groups = " ".join(secret[at : at + 4] for at in range(0, len(secret), 4))
        picture = segno.make(uri, error="m", micro=False).png_data_uri(scale=QR_SCALE)
        return super().get_context_data(**kwargs) | {"secret": groups, "qr": picture, "is_required": self.is_sign_in}

    def form_valid(self, form: CodeForm) -> HttpResponse:
        """Set it up, and show the recovery codes once."""
        session, key = self.request.session, str(self.request.session.session_key)
        secret, code, actor = self._secret(), form.cleaned_data["code"], staff_actor(self.request)
        codes = self.attempt(
            form, lambda: second_factor.enroll(account=self.account, secret=secret, code=code, session_key=key, actor=actor)
        )
        if codes is None:
            return self.form_invalid(form)
        session.cycle_key()
        del session[OFFERED_SECRET]
        session[VERIFIED] = True
        response = show_recovery_codes(self.request, codes, back=self.get_success_url())
        if self.is_sign_in:
            complete_sign_in(self.request, response)
        return response

    def _secret(self) -> str:
        """Read the secret that this session was offered, or make one."""
        session = self.request.session
        try:
            return decrypt_token(session.get(OFFERED_SECRET, ""), purpose=OFFERED_SECRET, context=self.account.pk)
        except UnreadableSecret:
            secret = second_factor.new_secret()
            session[OFFERED_SECRET] = encrypt_token(secret, purpose=OFFERED_SECRET, context=self.account.pk)
            return secret


class FactorChangeView(CodeView):
    """A page that changes the own second factor, for a valid code."""

    form_class = CodeOrRecoveryForm
    template_name = "admin/baskets/factor.html"
    success_url = reverse_lazy("staff:account")

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Redirect users who have none."""
        account: Any = request.user
        if not admin.site.has_permission(request) or not second_factor.is_enrolled(account):
            return redirect("staff:account" if request.user.is_authenticated else "admin:index")
        return super().dispatch(request, *args, **kwargs)

    def form_valid(self, form: CodeForm) -> HttpResponse:
        """Check the code, then change."""
        return self.change() if self.is_right(form) else self.form_invalid(form)

    def change(self) -> HttpResponse:
        """Change it."""
        raise NotImplementedError


class RemoveFactor(FactorChangeView):
    """Removes the own second factor, for example to set up another telephone."""

    title, submit = _("Remove the second factor"), _("Remove")

    def change(self) -> HttpResponse:
        """Remove it."""
        key, actor = str(self.request.session.session_key), staff_actor(self.request)
        runner.run(second_factor.remove, account=self.account, session_key=key, actor=actor)
        self.request.session.pop(VERIFIED, None)
        messages.success(self.request, gettext("The second factor is removed. Other sessions were ended."))
        return redirect("staff:account")


class RenewCodes(FactorChangeView):
    """Replaces the own recovery codes."""

    title, submit = _("New recovery codes"), _("Make new codes")

    def change(self) -> HttpResponse:
        """Replace them, and show the new ones once."""
        codes = second_factor.renew_recovery_codes(account=self.account, actor=staff_actor(self.request))
        return show_recovery_codes(self.request, codes, back=reverse("staff:account"))


class ChangePassword(PasswordChangeView):
    """Changes the own password. Every other session ends."""

    form_class = AdminPasswordChangeForm
    success_url = reverse_lazy("admin:password_change_done")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the frame of the admin."""
        return {**admin.site.each_context(self.request), **super().get_context_data(**kwargs)}

    def form_valid(self, form: Any) -> HttpResponse:
        """Change it and record that."""
        response = super().form_valid(form)
        account, actor, key = form.user, staff_actor(self.request), str(self.request.session.session_key)
        runner.run(rights.record_password, account=account, session_key=key, actor=actor)
        return response


def account_page(request: HttpRequest, pk: int | None = None) -> HttpResponse:
    """Show the access of an account: the caller's own, or that of another one to a superuser. A POST ends sessions.

    :raises PermissionDenied: the account is not the caller's.
    """
    if pk not in {None, request.user.pk} and not request.user.is_superuser:
        raise PermissionDenied
    account: Any = request.user if pk in {None, request.user.pk} else get_object_or_404(User, pk=pk)
    is_own = account == request.user
    current = str(request.session.session_key)
    if request.method == "POST":
        only, actor = request.POST.get("session", ""), staff_actor(request)
        ended = runner.run(staff_sessions.end_sessions, user=account, actor=actor, only=only, keep=current)
        messages.success(request, gettext("Sessions ended: %(number)s.") % {"number": ended})
        return redirect(request.path)
    factor = SecondFactor.objects.filter(pk=account.pk).first()
    sessions = list(staff_sessions.active_sessions(account))
    context = {
        "title": gettext("Your account") if is_own else gettext("Account"),
        "account": account,
        "is_own": is_own,
        "factor": factor,
        "is_required": second_factor.is_required(account),
        "codes_left": second_factor.recovery_codes_left(account),
        "enrolled_at": display.moment(factor.enrolled_at) if factor else "",
        "sessions": [_session_row(session, current=current) for session in sessions],
    }
    return TemplateResponse(request, "admin/baskets/account.html", {**admin.site.each_context(request), **context})


def _session_row(session: StaffSession, *, current: str) -> dict[str, Any]:
    return {
        "pk": session.pk,
        "is_current": session.pk == staff_sessions.digest_session_key(current),
        "started": display.moment(session.started_at),
        "seen": display.moment(session.seen_at),
        "source": display.visible(session.source) if session.source else display.NOTHING,
        "browser": display.visible(session.browser, limit=120) if session.browser else display.NOTHING,
    }


def show_recovery_codes(request: HttpRequest, codes: list[str], *, back: str) -> HttpResponse:
    """Show recovery codes on the one page that has them."""
    context = {**admin.site.each_context(request), "title": gettext("Recovery codes"), "codes": codes, "back": back}
    return TemplateResponse(request, "admin/baskets/recovery_codes.html", context)
