"""The door of the desk: passwords cannot be tried out one after the other. Who may do what inside is not decided here."""

import math
from typing import Any

import structlog
from django.contrib.admin.forms import AdminAuthenticationForm
from django.core.exceptions import ValidationError

from baskets import conf
from baskets.domain import throttles
from baskets.sources import source_of

log = structlog.get_logger("baskets.admin")


class LoginForm(AdminAuthenticationForm):
    """Signs staff in, unless there were too many attempts for this name or from this source of late.

    An attempt is counted before the password is looked at, so that many at once count as well, and the count is taken
    back when the password was right. Nothing is locked: whoever is told to wait gets in when the window is over.
    """

    def clean(self) -> dict[str, Any]:
        """Check name and password, or say that there were too many attempts.

        :raises ValidationError: they are wrong, or it is too early to try again.
        """
        if not conf.login_failures():
            return super().clean()
        name = str(self.cleaned_data.get("username", "")).casefold()
        subjects = [throttles.of_stranger("login", name), throttles.of_stranger("login-from", source_of(self.request))]
        for number, subject in enumerate(subjects):
            seconds = throttles.take(subject=subject, limit=conf.login_failures(), window=conf.login_window())
            if seconds is not None:
                for counted in subjects[:number]:
                    throttles.give_back(subject=counted)
                log.warning("login_slowed", seconds=seconds)
                raise ValidationError(self._too_many(seconds), code="slowed")
        signed_in = super().clean()
        for subject in subjects:
            throttles.give_back(subject=subject)
        return signed_in

    @staticmethod
    def _too_many(seconds: int) -> str:
        minutes = math.ceil(seconds / 60)
        return f"There were too many attempts to sign in. Try again in {minutes} minute{'' if minutes == 1 else 's'}."
