"""The outermost middleware of the API: every response has the envelope and its headers, and is logged once."""

import functools
import hashlib
import hmac
import random
import re
import time
from collections.abc import Callable
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase, ResponseHeaders

from baskets import conf
from baskets.api.auth.api_keys import Caller
from baskets.api.exceptions import error_response, response_for_exception
from baskets.api.long_polling import suspension_of
from baskets.api.protocol.envelope import REASON_ATTRIBUTE, add_missing_headers, set_plain_header
from baskets.api.protocol.metrics import REQUEST_SECONDS, REQUESTS_ANSWERED
from baskets.api.protocol.versioning import DEFAULT_VERSION, SUPPORTED_VERSIONS, requested_version
from baskets.db.backend.base import thread_connection
from baskets.domain.events import refused_calls
from baskets.log_context import log_context

log = structlog.get_logger("baskets.api")

ADMIN = "/admin/"
# Monitors and browsers request these often, and partners never do: they are logged only if they fail.
UNLOGGED_PATHS = ("/livez", "/readyz", "/metrics", "/static/")
# A UUID, or another short and plain name: it cannot be a key or a token, and needs no escaping in the log.
REQUEST_ID_PATTERN = re.compile(r"[A-Za-z0-9-]{1,64}")
REQUEST_ID_KEY = "baskets.request_id"
# Defaults for every response: browsers must not render it as a document, frame it, or guess its type.
SECURITY_HEADERS = {"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff"}
_SECURITY_HEADERS = ResponseHeaders(SECURITY_HEADERS)
_HEADERS_BY_VERSION = {version: ResponseHeaders(SECURITY_HEADERS | {"X-API-Version": version}) for version in SUPPORTED_VERSIONS}
# The reasons that replace HTML error responses of Django, by their status.
HTML_ERROR_REASONS = {400: "bad_request", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}


def request_id_of(request: Any) -> str:
    """Return the request id, which the response and the log line also have."""
    return str(request.META.get(REQUEST_ID_KEY, ""))


class EnvelopeMiddleware:
    """Puts every response into the envelope, except the pages for people."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Handle one request."""
        started = time.perf_counter()
        meta = request.META
        given = meta.get("HTTP_X_REQUEST_ID", "")
        request_id = given if REQUEST_ID_PATTERN.fullmatch(given) else f"{random.getrandbits(128):032x}"
        meta[REQUEST_ID_KEY] = request_id
        if request.path_info.startswith(ADMIN):
            response = self.get_response(request)
            _set_headers(response, request_id, _SECURITY_HEADERS)
            return response
        database = thread_connection()
        statements = database.statements
        with log_context(request_id=request_id):
            response = self._respond(request)
            _set_headers(response, request_id, _HEADERS_BY_VERSION[requested_version(request) or DEFAULT_VERSION])
            if (suspension := suspension_of(request)) and suspension.is_suspended:
                return response  # It is discarded.
            if response.status_code >= 500 or not request.path_info.startswith(UNLOGGED_PATHS):
                self._record(request, response, seconds=time.perf_counter() - started, statements=database.statements - statements)
        return response

    def _record(self, request: HttpRequest, response: HttpResponseBase, *, seconds: float, statements: int) -> None:
        """Log a request and count it."""
        _log(request, response, seconds=seconds, statements=statements)
        reason = getattr(response, REASON_ATTRIBUTE, None)
        if reason and _is_refusal_of_partner(request, response):
            refused_calls.count(reason)
        if conf.metrics_token():
            _count(request, response, seconds=seconds)

    def _respond(self, request: HttpRequest) -> HttpResponseBase:
        meta = request.META
        try:
            check_host(meta.get("HTTP_HOST", meta.get("SERVER_NAME")), tuple(settings.ALLOWED_HOSTS))
        except DisallowedHost:
            return error_response("bad_request")
        if request.encoding is not None:
            # Otherwise Django decodes the query with the charset of the body, which may not exist.
            request.encoding = "utf-8"
        response = self.get_response(request)
        if response.status_code >= 400 and not hasattr(response, REASON_ATTRIBUTE):
            return error_response(HTML_ERROR_REASONS.get(response.status_code, "internal_error"))
        return response

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Respond to an exception of a view outside of the API. The admin has its own error pages."""
        return None if request.path_info.startswith(ADMIN) else response_for_exception(error)


@functools.lru_cache(maxsize=256)
def check_host(host: str, allowed: tuple[str, ...]) -> None:  # noqa: ARG001 (a part of the key of the cache)
    """Check that a host is served here, once for each that is.

    :param allowed: the hosts of the setting.
    :raises DisallowedHost: it is not.
    """
    request = HttpRequest()
    request.META = {"HTTP_HOST": host}
    request.get_host()


def _set_headers(response: HttpResponseBase, request_id: str, defaults: ResponseHeaders) -> None:
    """Set the request id, and the other headers that are not set yet."""
    set_plain_header(response, "X-Request-ID", request_id)
    add_missing_headers(response, defaults)


def _log(request: HttpRequest, response: HttpResponseBase, *, seconds: float, statements: int) -> None:
    """Log a request: the route instead of the path, and the user as a keyed digest."""
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


def _is_refusal_of_partner(request: HttpRequest, response: HttpResponseBase) -> bool:
    """Return whether a refused call is one of a partner that sells, or one that the service could not answer, from any caller."""
    caller = getattr(request, "user", None)
    return not caller.sandbox if isinstance(caller, Caller) else response.status_code >= 500


def _count(request: HttpRequest, response: HttpResponseBase, *, seconds: float) -> None:
    route = request.resolver_match.route if request.resolver_match else ""
    REQUESTS_ANSWERED.labels(_method(request), route, response.status_code, getattr(response, REASON_ATTRIBUTE, "")).inc()
    REQUEST_SECONDS.labels(route).observe(seconds)


KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def _method(request: HttpRequest) -> str:
    """Return the method, or `other` for an unknown one: a caller could write anything there."""
    return request.method if request.method in KNOWN_METHODS else "other"


def user_digest(*, partner_id: int, user_id: str) -> str:
    """Return a digest that identifies a user in the log. It is keyed, so that a reader cannot test user ids against it."""
    identity = f"{partner_id}:{user_id}".encode(errors="backslashreplace")
    digest = _keyed_digest(settings.SECRET_KEY).copy()
    digest.update(identity)
    return digest.hexdigest()[:16]


@functools.lru_cache(maxsize=1)
def _keyed_digest(key: str) -> hmac.HMAC:
    """Return the digest of nothing, to copy: to digest the key takes half the time of a digest."""
    return hmac.new(key.encode(), digestmod=hashlib.sha256)
