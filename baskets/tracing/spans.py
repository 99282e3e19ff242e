"""The spans of calls, round trips and deliveries. Importing this module loads OpenTelemetry.

No attribute holds a path, a value of a statement, a message of an exception, a key or a user id: these can identify a user, or open a door.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.db import Error as DatabaseError
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from baskets.error_summary import sqlstate_of
from baskets.tracing.untraced import EVENT_KEY, UNTRACED

KNOWN_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The first table of a statement of Django's.
OPERATION = re.compile(r'\s*(\w+)(?:.*?\b(?:FROM|INTO|UPDATE)\s+"?(\w+)"?)?', re.DOTALL | re.IGNORECASE)
W3C = TraceContextTextMapPropagator()


class DeliverySpan:
    """The span of one delivery."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def end(self, *, status: int | None, failed: bool) -> None:
        """Record the outcome.

        :param status: of the response; None without one.
        """
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if failed:
            self._span.set_attribute("error.type", str(status or "no_response"))
            self._span.set_status(Status(StatusCode.ERROR))


class Spans:
    """Makes spans.

    :param provider: with what exports them.
    """

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("baskets")

    def shut_down(self) -> None:
        """Export what is left."""
        self._provider.shutdown()

    @contextmanager
    def _span(self, name: str, **options: Any) -> Iterator[Span]:
        """Make a span the current one. The message of an exception is not recorded: a database quotes rows there."""
        with self._tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False, **options) as span:
            try:
                yield span
            except Exception as error:
                _record_error(span, error)
                raise

    # --- Calls ---------------------------------------------------------------------------------

    def request(self, request: HttpRequest) -> AbstractContextManager[Span]:
        """Span a call, as a part of the caller's trace if it sends `traceparent`. Its `tracestate` would be exported, and is not read."""
        parent = {"traceparent": request.META.get("HTTP_TRACEPARENT", "")}
        attributes = {"http.request.method": method_of(request), "url.scheme": request.scheme}
        return self._span(method_of(request), context=W3C.extract(parent), kind=SpanKind.SERVER, attributes=attributes)

    def end_request(self, span: Span, request: HttpRequest, response: HttpResponseBase, *, reason: str | None) -> None:
        """Record the route and the outcome of a call.

        :param reason: of a refusal.
        """
        if match := request.resolver_match:
            span.update_name(f"{method_of(request)} {match.route}")
            span.set_attribute("http.route", match.route)
        span.set_attribute("http.response.status_code", response.status_code)
        if reason:
            span.set_attribute("baskets.reason", reason)
        if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            span.set_attribute("error.type", str(response.status_code))
            span.set_status(Status(StatusCode.ERROR))

    def current_context(self) -> str | None:
        """Return the current span as a `traceparent`; None if it is not recorded."""
        if not trace.get_current_span().is_recording():
            return None
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return carrier.get("traceparent")

    # --- The database --------------------------------------------------------------------------

    def round_trip(self, statements: Sequence[str]) -> AbstractContextManager[Any]:
        """Span a round trip to the database, if a recorded span makes it.

        :param statements: the names of its statements.
        """
        if not trace.get_current_span().is_recording():
            return UNTRACED
        attributes = {
            "db.system.name": "postgresql",
            "db.query.summary": " ".join(statements),
            "db.operation.batch.size": len(statements),
        }
        return self._span(" ".join(statements), kind=SpanKind.CLIENT, attributes=attributes)

    def statement(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:  # noqa: FBT001 (as Django calls it)
        """Span a statement of Django's, which is a separate round trip. Those of a pipeline have their spans already."""
        if context["cursor"] is None or not trace.get_current_span().is_recording():
            return execute(sql, params, many, context)
        found = OPERATION.match(sql)
        name = " ".join(part for part in found.groups() if part) if found else "statement"
        with self._span(name, kind=SpanKind.CLIENT, attributes={"db.system.name": "postgresql", "db.query.summary": name}):
            return execute(sql, params, many, context)

    # --- Webhooks ------------------------------------------------------------------------------

    @contextmanager
    def delivery(self, kind: str, *, url: str, headers: dict[str, str], tracking: Mapping[str, Any]) -> Iterator[DeliverySpan]:
        """Span a delivery in the trace of the event's call, and link it to that span; see `baskets.tracing.delivery`."""
        parent = W3C.extract({"traceparent": tracking.get(EVENT_KEY, "")})
        cause = trace.get_current_span(parent).get_span_context()
        attributes = {"http.request.method": "POST", "server.address": urlsplit(url).hostname or "", "baskets.event.kind": kind}
        links = [Link(cause)] if cause.is_valid else []
        with self._span(f"POST webhook {kind}", context=parent, kind=SpanKind.PRODUCER, attributes=attributes, links=links) as span:
            W3C.inject(headers)
            yield DeliverySpan(span)


def method_of(request: HttpRequest) -> str:
    """Return the method of a request, or `_OTHER` for an unknown one: a caller could write anything there."""
    return request.method if request.method in KNOWN_METHODS else "_OTHER"


def exporting_spans() -> Spans:
    """Make the spans of this process. The SDK reads sampler, resource, limits and exporter from the variables `OTEL_*`."""
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {SERVICE_NAME: "baskets"}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Spans(provider)


def _record_error(span: Span, error: Exception) -> None:
    """Record type and SQLSTATE of an error."""
    span.set_attribute("error.type", type(error).__qualname__)
    if state := sqlstate_of(error):
        if not isinstance(error, psycopg.Error | DatabaseError):
            return  # Not an error: what `expect_rows` raises where there are no rows.
        span.set_attribute("db.response.status_code", state)
    span.set_status(Status(StatusCode.ERROR))
