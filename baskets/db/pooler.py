"""Finds a pooler before the server that loses prepared statements. Knows nothing of baskets.

Note [Pooler]
In transaction mode a pooler gives each transaction any of its sessions, so a statement that was prepared under a name is not there in the
next one. PgBouncer follows the statements of its clients from version 1.21 on, if `max_prepared_statements` is above zero: it prepares
them in each session, under names that it chooses. So a session that shows the client's name has a pooler that does not follow. In session
mode that does no harm.
"""

import secrets
from contextlib import closing

from django.core.exceptions import ImproperlyConfigured
from django.db import InterfaceError, OperationalError, connections

from baskets.db.backend.base import DatabaseWrapper, thread_connection
from baskets.db.pipeline import PipelineConnection
from baskets.db.statements import Statement

UNSUITABLE = (
    "A pooler between the service and PostgreSQL loses prepared statements: use PgBouncer 1.21 or later with max_prepared_statements above "
    "zero, or session mode."
)
# In a busy pool, a single observation of the session that a connection gets may mislead.
LOOKS = 4


def pooler_problem(django: DatabaseWrapper) -> str | None:
    """Return why the service cannot work through the pooler of this connection, or None. See Note [Pooler].

    :raises django.db.Error: the server does not answer.
    """
    if _backend_pid(django) == django.connection.info.backend_pid:  # A pooler reports a number that it invents.
        return None
    with closing(django.copy()) as first, closing(django.copy()) as second:
        return UNSUITABLE if _shows_own_names(first) and _share_sessions(first, second) else None


def refuse_unsuitable_pooler() -> None:
    """Refuse to start behind a pooler that loses prepared statements. If the database does not answer, start without this check.

    :raises ImproperlyConfigured: there is such a pooler.
    """
    try:
        problem = pooler_problem(thread_connection())
    except (OperationalError, InterfaceError):
        return
    finally:
        connections.close_all()
    if problem:
        raise ImproperlyConfigured(problem)


def _backend_pid(django: DatabaseWrapper) -> int:
    with django.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _shows_own_names(django: DatabaseWrapper) -> bool:
    """Return whether a statement that was prepared under a name has that name in the session that runs it."""
    probe = Statement(f"pooler_{secrets.token_hex(4)}", "SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = %s)")
    name = probe.prepared_name.decode()
    django.set_autocommit(False)
    _backend_pid(django)  # Begins a transaction, and so keeps the session.
    ((shown,),) = PipelineConnection(django).enqueue(probe, [name])
    if shown:
        with django.cursor() as cursor:
            cursor.execute(f"DEALLOCATE {name}")
    django.rollback()
    django.set_autocommit(True)
    return bool(shown)


def _share_sessions(first: DatabaseWrapper, second: DatabaseWrapper) -> bool:
    """Return whether one connection has met two sessions, or both the same one: in session mode neither happens."""
    looks = [(_backend_pid(first), _backend_pid(second)) for _ in range(LOOKS)]
    one, other = map(set, zip(*looks, strict=True))
    return len(one) > 1 or bool(one & other)
