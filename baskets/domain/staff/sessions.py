"""Sessions of the admin: stored under a digest of their key, and ended by age, by inactivity or by staff.

Django loads this module as its session engine (`SESSION_ENGINE`). `baskets.admin` decides who may end which session.
"""

import hashlib
from datetime import timedelta
from typing import Any

from django.contrib.auth import SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper, F, QuerySet
from django.db.models.functions import Least, Now

from baskets import conf
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.models import DeskEntry, StaffSession

# A younger time of the last request is not updated, so that not every request writes.
SEEN_PRECISION = timedelta(minutes=1)
ENDED_EARLY = "ended_early"
ENDED_IDLE = "ended_idle"
ENDED_OLD = "ended_old"


def digest_session_key(session_key: str) -> str:
    """Return the digest that is stored for a session key. The key has 160 random bits, so a plain digest cannot be reversed."""
    return hashlib.sha256(session_key.encode(errors="backslashreplace")).hexdigest()


def _add(moment: Any, span: timedelta) -> Any:
    return ExpressionWrapper(moment + span, output_field=DateTimeField())


def _expiry() -> Least:
    """Return the expiry of a session whose last request is now."""
    return Least(_add(F("started_at"), conf.staff_session_lifetime()), _add(Now(), conf.staff_idle_timeout()))


def _active_rows() -> QuerySet[StaffSession]:
    return StaffSession._default_manager.filter(expire_date__gt=Now())  # noqa: SLF001 (Django's documented name)


class SessionStore(DatabaseStore):
    """Django's database sessions, with digests for keys and the database's clock for every limit."""

    # Django's own members, which its types leave out.
    _session: Any
    _get_session: Any
    _get_new_session_key: Any

    @classmethod
    def get_model_class(cls) -> type[StaffSession]:
        """Return the model."""
        return StaffSession

    def load(self) -> dict[str, Any]:
        """Read the session if it is active, and record its use at most once a minute."""
        row = _active_rows().filter(pk=digest_session_key(self.session_key or "")).annotate(age=Now() - F("seen_at")).first()
        if row is None:
            self._session_key = None
            return {}
        if row.age > SEEN_PRECISION:
            _active_rows().filter(pk=row.pk).update(seen_at=Now(), expire_date=_expiry())
        decoded: dict[str, Any] = self.decode(row.session_data)
        return decoded

    def exists(self, session_key: str) -> bool:
        """Return whether a key is taken."""
        return self.model.objects.filter(pk=digest_session_key(session_key)).exists()

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002 (as Django calls it)
        """Store the data. Never extends the session.

        :raises UpdateError: the session has ended since it was loaded.
        """
        if self.session_key is None:
            self.create()
            return
        key = digest_session_key(self.session_key)
        data = self._get_session(no_load=must_create)
        stored = {"session_data": self.encode(data), "user_id": data.get(SESSION_KEY)}
        if must_create:
            end = _add(Now(), min(conf.staff_idle_timeout(), conf.staff_session_lifetime()))
            StaffSession(pk=key, started_at=Now(), seen_at=Now(), expire_date=end, **stored).save(force_insert=True)
        elif not _active_rows().filter(pk=key).update(**stored):
            raise UpdateError

    def cycle_key(self) -> None:
        """Give the session another key and keep its expiry: a change of the password does not extend the session."""
        data, key = self._session, self._get_new_session_key()
        old = digest_session_key(self.session_key or "")
        if _active_rows().filter(pk=old).update(session_key=digest_session_key(key)):
            self._session_key, self.modified = key, True
        else:
            self.create()
        self._session_cache = data

    def delete(self, session_key: str | None = None) -> None:
        """Remove the session."""
        if key := session_key or self.session_key:
            self.model.objects.filter(pk=digest_session_key(key)).delete()

    @classmethod
    def clear_expired(cls) -> None:
        """Remove every session that has ended."""
        cls.get_model_class().objects.filter(expire_date__lte=Now()).delete()


def record_sign_in(*, session: Any, source: str, browser: str) -> None:
    """Store the session of a sign-in. Its age and its inactivity count from now.

    :param session: the `SessionStore` of the request.
    :param source: the client address.
    :param browser: the `User-Agent`.
    """
    session.save()
    end = _add(Now(), min(conf.staff_idle_timeout(), conf.staff_session_lifetime()))
    row = _active_rows().filter(pk=digest_session_key(session.session_key))
    row.update(source=source, browser=browser[:300], started_at=Now(), seen_at=Now(), expire_date=end)


def active_sessions(user: User) -> QuerySet[StaffSession]:
    """Return the active sessions of a member of staff, the most recently used first."""
    return _active_rows().filter(user=user).order_by("-seen_at", "pk")


@transaction.atomic(savepoint=False)
def end_sessions(*, user: User, actor: Actor, only: str = "", keep: str = "") -> int:
    """End sessions of a member of staff at once. The next request of each leads to the sign-in. Idempotent.

    Locks the rows of the sessions.

    :param only: the digest of the one session to end.
    :param keep: the key of a session to keep, such as the caller's.
    :returns: how many sessions were ended.
    """
    chosen = _active_rows().filter(user=user).exclude(pk=digest_session_key(keep) if keep else "")
    ended = (chosen.filter(pk=only) if only else chosen).update(expire_date=Now(), ended_by=actor.name)
    if ended:
        audit_log.record_access(kind=DeskEntry.Kind.SESSIONS_ENDED, account=user, data={"sessions": ended}, actor=actor)
    return ended


def end_reason(session_key: str) -> tuple[str, str]:
    """Return why a session has ended.

    :returns: the reason, one of `ENDED_*`, and the name of the member of staff who ended it. Empty strings where unknown.
    """
    row = StaffSession._default_manager.filter(pk=digest_session_key(session_key), expire_date__lte=Now(), user__isnull=False).first()  # noqa: SLF001
    if row is None:
        return "", ""
    if row.ended_by:
        return ENDED_EARLY, row.ended_by
    return (ENDED_OLD if row.expire_date >= row.started_at + conf.staff_session_lifetime() else ENDED_IDLE), ""
