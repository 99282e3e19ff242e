"""Records changes of staff rights and passwords, and ends the sessions of the account. Django's admin makes the changes."""

from collections.abc import Mapping, Sequence

from django.contrib.auth.models import Group, User
from django.db import transaction

from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.staff import sessions
from baskets.models import DeskEntry

FLAGS = ("is_active", "is_staff", "is_superuser")
NAMES = ("username", "first_name", "last_name", "email")
PERMISSION = ("content_type__app_label", "codename")


def list_rights(subject: User | Group) -> list[str]:
    """Return the names of the flags, roles and permissions of an account or a role.

    :returns: for example `["is_active", "is_staff", "role Basket viewers"]`.
    """
    permissions = subject.user_permissions if isinstance(subject, User) else subject.permissions
    own = [f"{app}.{name}" for app, name in permissions.order_by(*PERMISSION).values_list(*PERMISSION)]
    if isinstance(subject, Group):
        return own
    flags = [flag for flag in FLAGS if getattr(subject, flag)]
    return [*flags, *(f"role {name}" for name in subject.groups.order_by("name").values_list("name", flat=True)), *own]


def list_names(subject: User | Group) -> dict[str, str]:
    """Return the name of a role, or the names and the address of an account.

    :returns: `name` of a role; `username`, `first_name`, `last_name` and `email` of an account.
    """
    return {"name": subject.name} if isinstance(subject, Group) else {name: getattr(subject, name) for name in NAMES}


@transaction.atomic(savepoint=False)
def record_change(
    *, subject: User | Group, before: Sequence[str], names_before: Mapping[str, str] | None = None, session_key: str, actor: Actor
) -> None:
    """Record a change of rights and names, if any. A change of rights ends the other sessions of the account.

    :param before: the rights before the change, from `list_rights`.
    :param names_before: the names before the change, from `list_names`; None for a new account or role.
    :param session_key: of the session to keep, if staff change their own account.
    """
    names = list_names(subject)
    about, name = ("account", subject.get_username()) if isinstance(subject, User) else ("role", subject.name)
    audit_log.record_change(about=about, subject=name, before=names if names_before is None else names_before, after=names, actor=actor)
    after = list_rights(subject)
    if after == list(before):
        if names_before is None:
            _record(DeskEntry.Kind.CREATED, subject, {}, actor)
        return
    data = {"given": [right for right in after if right not in before], "taken": [right for right in before if right not in after]}
    _record(DeskEntry.Kind.RIGHTS_CHANGED, subject, data, actor)
    if isinstance(subject, User):
        sessions.end_sessions(user=subject, actor=actor, keep=session_key)


@transaction.atomic(savepoint=False)
def record_removal(*, subject: User | Group, actor: Actor) -> None:
    """Record the removal of an account or a role, with its rights. The sessions of an account are deleted with it."""
    _record(DeskEntry.Kind.RIGHTS_CHANGED, subject, {"given": [], "taken": list_rights(subject), "removed": True}, actor)


@transaction.atomic(savepoint=False)
def record_password(*, account: User, session_key: str, actor: Actor) -> None:
    """Record a change of a password, and end every other session of the account.

    :param session_key: of the session to keep, if staff change their own password.
    """
    _record(DeskEntry.Kind.PASSWORD_CHANGED, account, {}, actor)
    sessions.end_sessions(user=account, actor=actor, keep=session_key)


def _record(kind: DeskEntry.Kind, subject: User | Group, data: Mapping[str, object], actor: Actor) -> None:
    account, role = (subject, None) if isinstance(subject, User) else (None, subject)
    audit_log.record_access(kind=kind, account=account, role=role, data=data, actor=actor)
