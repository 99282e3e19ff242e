"""Inspects the effects of a fault: the response, the timeline, and the sessions of the database."""

from collections.abc import Callable
from typing import Any

from django.db import connection
from psycopg import Connection

from baskets.models import Event

BUSY = (503, "busy")
UNAVAILABLE = (503, "database_unavailable")
DONE = (200, "")


def outcome(answer: Any) -> tuple[int, str]:
    """Return status and reason of a response, and check that a 503 has `Retry-After`."""
    if answer.status_code == 200:
        return DONE
    assert answer.status_code != 503 or int(answer.headers["Retry-After"]) > 0
    return answer.status_code, answer.json()["error"]["details"]["reason"]


def event_kinds() -> list[str]:
    """Return the kinds of all events, in order."""
    return list(Event.objects.order_by("number").values_list("kind", flat=True))


def backend_pid() -> int:
    """Return the process id of the database backend of this thread's connection."""
    connection.ensure_connection()
    return int(connection.connection.info.backend_pid)


def waits_for_lock(client: Connection[Any], pid: int) -> Callable[[], bool]:
    """Return a function that tells whether a backend waits for a lock."""
    waiting = "SELECT count(*) > 0 FROM pg_locks WHERE pid = %s AND NOT granted"
    return lambda: client.execute(waiting, [pid]).fetchone() == (True,)
