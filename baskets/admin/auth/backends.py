"""Django's check of names and passwords, for staff whose accounts another cell may publish. See ADR 60."""

from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.hashers import check_password
from django.contrib.auth.models import User
from django.db import IntegrityError
from django.http import HttpRequest

from baskets.db.errors import constraint_of
from baskets.domain.errors import PUBLISHER_CONSTRAINT


class StaffBackend(ModelBackend):
    """Signs staff in also where the hash of their password cannot be replaced by a stronger one.

    Django replaces an outdated hash at the first sign-in after its default has changed. A cell that follows a publisher refuses
    that, so the hash stays as it is until the account signs in at the publisher.
    """

    def authenticate(self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_: Any) -> User | None:
        """Return the account with this name and password; None if there is none, or it may not sign in."""
        try:
            return super().authenticate(request, username=username, password=password)
        except IntegrityError as error:
            if constraint_of(error) != PUBLISHER_CONSTRAINT:
                raise
        account = User.objects.get(username=username)
        is_right = check_password(password, account.password) and self.user_can_authenticate(account)
        return account if is_right else None
