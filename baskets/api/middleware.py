"""The outermost layer: whatever happens inside, what leaves is in the envelope, has its headers, and is logged once."""

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from baskets import conf
from baskets.api.auth.api_keys import Caller
from baskets.api.exceptions import answer, answer_to
from baskets.api.protocol.envelope import REASON_ATTRIBUTE
from baskets.api.protocol.metrics import REQUEST_SECONDS, REQUESTS_ANSWERED
from baskets.api.protocol.versioning import DEFAULT_VERSION, requested_version

log = structlog.get_logger("baskets.api")

ADMIN = "/admin/"
# Asked every few seconds, or not asked by a partner at all: worth a line only when something is wrong.
QUIET = ("/livez", "/readyz", "/metrics", "/static/")
# A UUID, or a name as short and plain: no key and no token looks like one, and no log needs to escape it.
SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{1,64}")
REQUEST_ID = "baskets.request_id"
# What every response has that brings no value for them: nothing in it is to be shown as a document, framed or guessed at.
INERT = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff"}
# What stands for an answer of Django's own that would be HTML.
STRAY = {400: "bad_request", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def request_id_of(request: Any) -> str:
    """Name the request, as its answer and its log line do."""
    return str(request.META.get(REQUEST_ID, ""))


class EnvelopeMiddleware:
    """Sees to it that nothing but the envelope leaves the service, the pages for people apart."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Answer one request."""
        started = time.perf_counter()
        meta = request.META
        given = meta.get("HTTP_X_REQUEST_ID", "")
        request_id = given if SANE_REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
        meta[REQUEST_ID] = request_id
        if request.path_info.startswith(ADMIN):
            response = self.get_response(request)
            _guard(response, request_id)
            return response
        statements = Statements()
        with structlog.contextvars.bound_contextvars(request_id=request_id), connection.execute_wrapper(statements):
            response = self._answer(request)
            _guard(response, request_id)
            response.headers["X-API-Version"] = requested_version(request) or DEFAULT_VERSION
            if response.status_code >= 500 or not request.path_info.startswith(QUIET):
                seconds = time.perf_counter() - started
                _log(request, response, seconds=seconds, statements=statements.number)
                if conf.metrics_token():
                    _count(request, response, seconds=seconds)
        return response

    def _answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            request.get_host()
        except DisallowedHost:
            return answer("bad_request")
        if request.encoding is not None:
            # Django would read the query by the charset of the body, and some names are of no charset at all.
            request.encoding = "utf-8"
        response = self.get_response(request)
        if response.status_code >= 400 and not hasattr(response, REASON_ATTRIBUTE):
            return answer(STRAY.get(response.status_code, "internal_error"))
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer what a view outside of the API raised. The admin has pages of its own for that."""
        return None if request.path_info.startswith(ADMIN) else answer_to(error)


def _guard(response: HttpResponseBase, request_id: str) -> None:
    """Set the headers of every response."""
    response.headers["X-Request-ID"] = request_id
    for name, value in INERT.items():
        response.headers.setdefault(name, value)


class Statements:
    """Counts the statements of a request, those sent together one by one; Django calls it around each."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 (Django's signature)
        """Count one, and run it."""
        self.number += 1
        return execute(sql, params, many, context)


def _log(request: HttpRequest, response: HttpResponseBase, *, seconds: float, statements: int) -> None:
    """Write the line of a request: the route and not the path, and the user as a digest only the operator can make."""
    match = request.resolver_match
    line: dict[str, Any] = {
        "method": _method(request),
        "route": match.route if match else "",
        "status": response.status_code,
        "ms": round(seconds * 1000, 1),
        "statements": statements,
    }
    if reason := getattr(response, REASON_ATTRIBUTE, None):
        line["reason"] = reason
    caller = getattr(request, "user", None)
    if isinstance(caller, Caller):
        line |= {"partner": caller.partner, "key": caller.prefix}
        if match and (user_id := match.kwargs.get("user_id")) is not None:
            line["user"] = user_digest(partner_id=caller.partner_id, user_id=user_id)
    log.info("request", **line)


def _count(request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
    route = request.resolver_match.route if request.resolver_match else ""
    REQUESTS_ANSWERED.labels(_method(request), route, response.status_code, getattr(response, REASON_ATTRIBUTE, "")).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)


KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(request: HttpRequest) -> str:
    """Name the method, but for one of the caller's invention."""
    return request.method if request.method in KNOWN_METHODS else "other"


def user_digest(*, partner_id: int, user_id: str) -> str:
    """Name a user in the log without naming them: keyed, so that nobody can try out ids against it."""
    named = f"{partner_id}:{user_id}".encode(errors="backslashreplace")
    return hmac.digest(settings.SECRET_KEY.encode(), named, hashlib.sha256).hex()[:16]
