"""Spans each call. The settings add this middleware only where traces are on."""

from collections.abc import Callable

from django.db import connection
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from baskets import tracing
from baskets.api.middleware import UNLOGGED_PATHS
from baskets.api.protocol.envelope import REASON_ATTRIBUTE
from baskets.log_context import log_context


class RequestSpans:
    """Spans a call with all that it does, and adds the id of its trace to its line in the log. Monitors have no spans."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        """Handle one request."""
        if not (spans := tracing.active) or request.path_info.startswith(UNLOGGED_PATHS):
            return self.get_response(request)
        with spans.request(request) as span:
            trace_id = format(span.get_span_context().trace_id, "032x")
            with connection.execute_wrapper(spans.statement), log_context(trace_id=trace_id):
                response = self.get_response(request)
            spans.end_request(span, request, response, reason=getattr(response, REASON_ATTRIBUTE, None))
            return response
