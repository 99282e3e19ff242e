"""What the forms of superusers share: the permission, a nonce that makes a page valid for one POST, and refusals shown on the form."""

import secrets
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest

from baskets.admin.core.refusals import translated
from baskets.domain import runner
from baskets.domain.errors import Refusal

P = ParamSpec("P")
T = TypeVar("T")

# In a session: the nonce of the form that it has shown last.
FORM_NONCE = "baskets_key_form"


class NonceForm(forms.Form):
    """A form that takes effect once: its nonce belongs to one session, and the first POST uses it up."""

    nonce = forms.CharField(widget=forms.HiddenInput, max_length=64)


def require_superuser(request: HttpRequest) -> None:
    """Let superusers pass.

    :raises PermissionDenied: the user is not an active superuser.
    """
    if not (request.user.is_active and request.user.is_superuser):
        raise PermissionDenied


def pop_form_nonce(request: HttpRequest) -> bool:
    """Use up the nonce of the session, and tell whether the POST carries it."""
    expected = str(request.session.pop(FORM_NONCE, None) or secrets.token_urlsafe(24))
    return secrets.compare_digest(request.POST.get("nonce", "").encode(), expected.encode())


def renew_form_nonce(request: HttpRequest, form: NonceForm) -> None:
    """Give a form a new nonce. What the user has typed stays."""
    request.session[FORM_NONCE] = nonce = secrets.token_urlsafe(24)
    form.initial["nonce"] = nonce
    if form.is_bound:
        form.data = data = request.POST.copy()
        data["nonce"] = nonce


def run_for_form(form: forms.Form, operation: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Run a domain call for a form, and show a refusal on the form.

    :returns: what the call returns; None if it is refused.
    """
    try:
        return runner.run(operation, *args, **kwargs)
    except Refusal as refusal:
        form.add_error(None, translated(refusal))
        return None
