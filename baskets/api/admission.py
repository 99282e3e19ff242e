"""Tells the process server what it needs before a call gets a thread: priority, size limit, and the responses to refusals."""

import functools
import re
import secrets
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple, Protocol

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import connections
from django.http import HttpResponse

from baskets import conf
from baskets.api.exceptions import error_response
from baskets.api.middleware import ADMIN, REQUEST_ID_PATTERN, SECURITY_HEADERS, check_host
from baskets.api.protocol.envelope import json_response, success_body
from baskets.api.protocol.metrics import (
    CONNECTIONS_OPEN,
    QUEUE_LENGTH,
    QUEUE_SECONDS,
    REQUESTS_IN_FLIGHT,
    REQUESTS_REFUSED,
    THREADS_BUSY,
)
from baskets.api.protocol.versioning import DEFAULT_VERSION, requested_version
from baskets.domain.events import refused_calls

log = structlog.get_logger("baskets.api")

SESSIONS = re.compile(r"(?:/v2)?/baskets/users/[^/]+/checkout/sessions(/[^/]+)?")
LIVENESS, READINESS = "/livez", "/readyz"
# They have a separate thread: a full queue must not take a process out of service.
PROBES = frozenset({READINESS, "/metrics"})
PROBE_METHODS = frozenset({"GET", "HEAD"})
# `/readyz` needs no key. For so long the result of one check answers all requests, so that a flood of them needs no thread.
READINESS_SECONDS = 1
# Large, and not needed for calls. The metrics are among them so that their queue takes `/readyz` first.
FILES = ("/static/", "/schema", "/docs", "/redoc", "/metrics")
# The wait is random up to this, so that callers that were refused together do not return together.
MAX_RETRY_AFTER_SECONDS = 5
# Between two writes of the counts of refused calls by one process.
COUNTS_SECONDS = 10


class RawResponse(NamedTuple):
    """A response as the process server sends it."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class Head(Protocol):
    """The head of a request: all that is known before its body is read.

    :param headers: by their WSGI names.
    """

    method: str
    path: str
    headers: dict[str, str]


class LatestReadiness:
    """The response to the latest `/readyz` that has checked the database. Its thread puts it, the event loop gets it."""

    _latest: tuple[float, RawResponse] | None = None

    def put(self, response: HttpResponse) -> None:
        """Keep a response for `READINESS_SECONDS`. Later changes of its headers do not matter."""
        self._latest = time.monotonic(), RawResponse(response.status_code, [*response.items()], response.content)

    def get(self) -> RawResponse | None:
        """Return the response, unless it is too old."""
        latest = self._latest
        return latest[1] if latest and time.monotonic() - latest[0] < READINESS_SECONDS else None


LATEST_READINESS = LatestReadiness()


class Admission:
    """Orders calls by their importance: payments first, then purchases, other calls, and files."""

    priorities = 4

    def __init__(self) -> None:
        self._counts_due_at = time.monotonic() + COUNTS_SECONDS
        self._is_ending = False

    def immediate_response(self, head: Head) -> RawResponse | None:
        """Return the response to `/livez` without a queue: to restart a busy process would not help.

        The response to `/readyz` is also known at once: before the end, when it fails, and for a second after a check of the database.

        :returns: None for other requests.
        """
        known = self._known_response(head) if head.path in {LIVENESS, READINESS} and head.method in PROBE_METHODS else None
        return RawResponse(known.status, [*known.headers, *_standard_headers(head)], known.body) if known else None

    def _known_response(self, head: Head) -> RawResponse | None:
        if head.path == LIVENESS:
            response = json_response(success_body({"status": "alive"}))
            return RawResponse(200, [*response.items()], response.content)
        if self._is_ending:
            return _error_parts("shutting_down")
        return LATEST_READINESS.get() if _is_served_host(head) else None

    def priority(self, head: Head) -> int:
        """Return the priority of a call; 0 is served first."""
        if not (session := SESSIONS.fullmatch(head.path)):
            return 3 if head.path.startswith(FILES) else 2
        return 0 if session[1] else 1

    def is_probe(self, head: Head) -> bool:
        """Return whether a request is a probe, and not one with a method or host that will be refused."""
        return head.path in PROBES and head.method in PROBE_METHODS and _is_served_host(head)

    def body_limit(self, head: Head) -> int:
        """Return the largest size of a body, in bytes."""
        return settings.DATA_UPLOAD_MAX_MEMORY_SIZE if head.path.startswith(ADMIN) else conf.body_limit_bytes()

    def error_response(self, reason: str, head: Head | None) -> RawResponse:
        """Return the response to a refused request. Refusals by an overload are counted, and all others are logged.

        The others are broken or too large, and their callers are unknown.
        """
        status, fixed, body = _error_parts(reason)
        headers = _standard_headers(head)
        if reason == "overloaded":
            headers.append(("Retry-After", str(1 + secrets.randbelow(MAX_RETRY_AFTER_SECONDS))))
            refused_calls.count(reason)
        else:
            log.info("request", route="", status=status, reason=reason, ms=0.0, statements=0, request_id=headers[0][1])
        if conf.metrics_token():
            REQUESTS_REFUSED.labels(reason).inc()
        return RawResponse(status, [*fixed, *headers], body)

    def record_wait(self, seconds: float) -> None:
        """Record how long a call waited for its thread.

        :param seconds: the time in the queue.
        """
        if conf.metrics_token():
            QUEUE_SECONDS.observe(seconds)

    def observe(self, *, queued: int, busy: int, in_flight: int, connections: int) -> None:
        """Record the current load of this process. Write the counts of refused calls when due."""
        if refused_calls.is_waiting() and time.monotonic() >= self._counts_due_at:
            self._counts_due_at = time.monotonic() + COUNTS_SECONDS
            # The event loop must not wait for the database.
            threading.Thread(target=self.end_thread, name="refused-calls", daemon=True).start()
        if conf.metrics_token():
            QUEUE_LENGTH.set(queued)
            THREADS_BUSY.set(busy)
            REQUESTS_IN_FLIGHT.set(in_flight)
            CONNECTIONS_OPEN.set(connections)

    def announce_end(self) -> None:
        """Let `/readyz` fail, so that balancers send their calls elsewhere before this process ends."""
        self._is_ending = True

    def end_thread(self) -> None:
        """Write the counts of refused calls, and close the thread's connection to the database."""
        refused_calls.write_counts()
        connections.close_all()


@functools.cache
def _error_parts(reason: str) -> RawResponse:
    """Return what all refusals for a reason share: rendering it takes longer than the rest of a refusal, and a crowd gets thousands."""
    response = error_response(reason)
    if reason == "overloaded":
        del response["Retry-After"]  # Each has a random one.
    return RawResponse(response.status_code, [*response.items()], response.content)


def _is_served_host(head: Head) -> bool:
    """Return whether the application will serve the host of a request."""
    try:
        check_host(head.headers.get("HTTP_HOST", ""), tuple(settings.ALLOWED_HOSTS))
    except DisallowedHost:
        return False
    return True


def _standard_headers(head: Head | None) -> list[tuple[str, str]]:
    """Return the headers of every response: request id, version and security headers."""
    headers = head.headers if head else {}
    given = headers.get("HTTP_X_REQUEST_ID", "")
    version = requested_version(SimpleNamespace(META=headers)) or DEFAULT_VERSION  # type: ignore[arg-type] # Only `META` is read.
    return [
        ("X-Request-ID", given if REQUEST_ID_PATTERN.fullmatch(given) else secrets.token_hex(16)),
        ("X-API-Version", version),
        *SECURITY_HEADERS.items(),
    ]
