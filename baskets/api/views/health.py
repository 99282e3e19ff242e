"""The health checks: the process is alive, and it can serve calls. Monitors call them every few seconds, so both are cheap."""

import functools
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import structlog
from django.db import ProgrammingError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from baskets.api.admission import LATEST_READINESS
from baskets.api.exceptions import error_response, response_for_db_error
from baskets.api.protocol.envelope import json_response, success_body
from baskets.db.errors import Fault, fault_of, read_with_reconnect
from baskets.error_summary import sqlstate_of

log = structlog.get_logger("baskets.api")
P = ParamSpec("P")


def get_only(view: Callable[Concatenate[HttpRequest, P], HttpResponseBase]) -> Callable[Concatenate[HttpRequest, P], HttpResponseBase]:
    """Restrict a plain view to GET and HEAD. Other methods get a 405 in the envelope."""

    @csrf_exempt  # Otherwise a POST would be refused for its missing token, with a 403.
    @functools.wraps(view)
    def wrapper(request: HttpRequest, /, *args: P.args, **kwargs: P.kwargs) -> HttpResponseBase:
        if request.method not in {"GET", "HEAD"}:
            return error_response("method_not_allowed", headers={"Allow": "GET, HEAD"})
        return view(request, *args, **kwargs)

    return wrapper


@get_only
def livez(request: HttpRequest) -> HttpResponse:
    """Report that the process responds. Does not query the database: a restart would not bring it back."""
    del request
    return json_response(success_body({"status": "alive"}))


@get_only
def readyz(request: HttpRequest) -> HttpResponse:
    """Report whether calls can be served: the database responds, and has all migrations of this release.

    The response is also that to the probes that arrive within a second.
    """
    del request
    response = _check_readiness()
    LATEST_READINESS.put(response)
    return response


def _check_readiness() -> HttpResponse:
    try:
        missing = read_with_reconnect(missing_migrations)
    except Exception as error:  # noqa: BLE001 (any failure means: not ready)
        return error_response("database_unavailable") if fault_of(error) is not Fault.INTERNAL else response_for_db_error(error)
    if missing:
        log.warning("migrations_missing", migrations=sorted(".".join(name) for name in missing))
        return error_response("migrations_missing")
    return json_response(success_body({"status": "ready"}))


def missing_migrations() -> frozenset[tuple[str, str]]:
    """Return the migrations of this release that the database does not have, as pairs of app and name. One statement."""
    try:
        applied = set(MigrationRecorder.Migration.objects.using(connection.alias).values_list("app", "name"))
    except ProgrammingError as error:
        if sqlstate_of(error) != "42P01":  # undefined_table
            raise
        applied = set()  # The table in which Django records them does not exist either.
    return release_migrations() - applied


@functools.cache
def release_migrations() -> frozenset[tuple[str, str]]:
    """Return all migrations of this release, as pairs of app and name. Reads them from disk once."""
    loader = MigrationLoader(None, ignore_no_migrations=True)
    return frozenset(loader.graph.nodes)
