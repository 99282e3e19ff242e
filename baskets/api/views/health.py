"""Whether the process lives, and whether it can serve. Asked by machines every few seconds, so both are cheap."""

import functools
from collections.abc import Callable

import structlog
from django.db import ProgrammingError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from baskets.api.exceptions import answer, answer_to_fault
from baskets.api.protocol.envelope import json_response, success_body
from baskets.db.errors import Fault, fault_of, reading, sqlstate_of

log = structlog.get_logger("baskets.api")


def get_only(view: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Let a plain view be read and nothing else."""

    @csrf_exempt  # Another method is told that it is the method.
    @functools.wraps(view)
    def checked(request: HttpRequest) -> HttpResponse:
        if request.method not in {"GET", "HEAD"}:
            return answer("method_not_allowed", headers={"Allow": "GET, HEAD"})
        return view(request)

    return checked


@get_only
def livez(request: HttpRequest) -> HttpResponse:
    """Say that the process answers. The database is not asked: a restart would not bring it back."""
    del request
    return json_response(success_body({"status": "alive"}))


@get_only
def readyz(request: HttpRequest) -> HttpResponse:
    """Say whether calls can be served: the database is there, and has all migrations of this release."""
    del request
    try:
        missing = reading(missing_migrations)
    except Exception as error:  # noqa: BLE001 (whatever it is, the answer is: not ready)
        return answer("database_unavailable") if fault_of(error) is not Fault.BUG else answer_to_fault(error)
    if missing:
        log.warning("migrations_missing", migrations=sorted(".".join(name) for name in missing))
        return answer("migrations_missing")
    return json_response(success_body({"status": "ready"}))


def missing_migrations() -> frozenset[tuple[str, str]]:
    """Tell which migrations of this release the database has not seen, in one statement."""
    try:
        applied = set(MigrationRecorder.Migration.objects.using(connection.alias).values_list("app", "name"))
    except ProgrammingError as error:
        if sqlstate_of(error) != "42P01":  # undefined_table
            raise
        applied = set()  # There is not even the table in which Django notes them.
    return release_migrations() - applied


@functools.cache
def release_migrations() -> frozenset[tuple[str, str]]:
    """All migrations that this release brings; read from disk once."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return frozenset(loader.graph.nodes)
