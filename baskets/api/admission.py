"""What the process server asks of the API before a call has a thread: its rank, its bound, and the answer to what is refused."""

import re
import secrets
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Protocol

import structlog
from django.conf import settings
from django.db import connections

from baskets import conf
from baskets.api.exceptions import answer
from baskets.api.middleware import ADMIN, INERT, SANE_REQUEST_ID
from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.protocol.metrics import CONNECTIONS_OPEN, QUEUE_LENGTH, QUEUE_SECONDS, REQUESTS_REFUSED, THREADS_BUSY
from baskets.api.protocol.versioning import DEFAULT_VERSION, requested_version

log = structlog.get_logger("baskets.api")

SESSIONS = re.compile(r"(?:/v2)?/baskets/users/[^/]+/checkout/sessions(/[^/]+)?")
LIVENESS = "/livez"
# They have a thread to themselves: a full queue is no reason to take a process out of service.
PROBES = frozenset({"/readyz", "/metrics"})
# Large, and needed by no call.
FILES = ("/static/", "/schema", "/docs", "/redoc")
# Callers that were refused together come back at different times.
MAX_RETRY_AFTER_SECONDS = 5

Answer = tuple[int, Sequence[tuple[str, str]], bytes]


class Head(Protocol):
    """What is known of a request when its head has been read.

    :param headers: by their WSGI names.
    """

    method: str
    path: str
    headers: dict[str, str]


class Admission:
    """Ranks calls by what is behind them: a payment, then a purchase, then other calls, then files."""

    priorities = 4

    def immediate_response(self, head: Head) -> Answer | None:
        """Answer `/livez`: it waits for nothing, because a restart of a busy process helps no one."""
        if head.path != LIVENESS or head.method not in {"GET", "HEAD"}:
            return None
        response = json_response(success_body({"status": "alive"}))
        return 200, [*response.items(), *_names(head)], response.content

    def priority(self, head: Head) -> int | None:
        """Rank a call, 0 first; None for a probe."""
        if head.path in PROBES:
            return None
        if not (session := SESSIONS.fullmatch(head.path)):
            return 3 if head.path.startswith(FILES) else 2
        return 0 if session[1] else 1

    def body_limit(self, head: Head) -> int:
        """Tell how many bytes of a body are read."""
        return settings.DATA_UPLOAD_MAX_MEMORY_SIZE if head.path.startswith(ADMIN) else conf.body_limit_bytes()

    def error_response(self, reason: str, head: Head | None) -> Answer:
        """Refuse in the envelope, before any work. The refusals of an overload are counted; the others have a line in the log as well."""
        overloaded = reason == "overloaded"
        retry = {"Retry-After": str(1 + secrets.randbelow(MAX_RETRY_AFTER_SECONDS))} if overloaded else None
        response = answer(reason, headers=retry)
        names = _names(head)
        if not overloaded:
            log.info("request", route="", status=response.status_code, reason=reason, ms=0.0, statements=0, request_id=names[0][1])
        if conf.metrics_token():
            REQUESTS_REFUSED.labels(reason).inc()
        return response.status_code, [*response.items(), *names], response.content

    def record_wait(self, seconds: float) -> None:
        """Record how long a call waited for its thread."""
        if conf.metrics_token():
            QUEUE_SECONDS.observe(seconds)

    def observe(self, *, queued: int, busy: int, connections: int) -> None:
        """Record what this process has at this moment."""
        if conf.metrics_token():
            QUEUE_LENGTH.set(queued)
            THREADS_BUSY.set(busy)
            CONNECTIONS_OPEN.set(connections)

    def end_thread(self) -> None:
        """Close the thread's connection to the database."""
        connections.close_all()


def _names(head: Head | None) -> list[tuple[str, str]]:
    """Return the headers that every answer has: the name of the request, the version, and those for browsers."""
    headers = head.headers if head else {}
    given = headers.get("HTTP_X_REQUEST_ID", "")
    version = requested_version(SimpleNamespace(META=headers)) or DEFAULT_VERSION  # type: ignore[arg-type] # Only `META` is read.
    return [
        ("X-Request-ID", given if SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(16)),
        ("X-API-Version", version),
        *INERT.items(),
    ]
