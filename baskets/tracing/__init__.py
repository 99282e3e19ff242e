"""OpenTelemetry traces: off by default, switched on by the variables `OTEL_*`. What gets a span: ADR 61.

The rest of the program imports this module alone. It loads OpenTelemetry in `start`, where traces are on, and else costs one comparison for
each round trip to the database and for each delivery of a webhook.
"""

import atexit
import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from baskets.tracing.untraced import EVENT_KEY, UNTRACED

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from baskets.tracing.spans import DeliverySpan, Spans

# How long the end of a process waits for the collector.
STOP_SECONDS = 2

# None where traces are off.
active: "Spans | None" = None


def is_requested() -> bool:
    """Return whether the environment switches traces on.

    :raises ImproperlyConfigured: it asks for an exporter or a protocol that there is not.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true" or exporter == "none" or not (exporter or endpoint):
        return False
    protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
    if exporter not in ("", "otlp") or protocol != "http/protobuf":
        raise ImproperlyConfigured(
            "Traces are exported by OTLP over HTTP only: set OTEL_TRACES_EXPORTER to otlp or none, and OTEL_EXPORTER_OTLP_PROTOCOL, "
            "if at all, to http/protobuf."
        )
    return True


def start() -> None:
    """Switch traces on, once in a process, if the environment asks for them. Starts the thread that exports them.

    :raises ImproperlyConfigured: OpenTelemetry is not installed, or a variable is wrong.
    """
    global active  # noqa: PLW0603 (on or off, for the whole process)
    if active or not is_requested():
        return
    try:
        from baskets.tracing.spans import exporting_spans  # noqa: PLC0415 (loads OpenTelemetry)
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(
            "OTEL_... asks for traces, and OpenTelemetry is not installed: `python3 -m basket_project setup tracing` does it, "
            "or pip with the extra `basket-service[tracing]`."
        ) from error
    active = exporting_spans()
    atexit.register(stop)


def stop() -> None:
    """Export what is left, for a short time, and switch traces off."""
    global active
    spans, active = active, None
    if spans:
        thread = threading.Thread(target=spans.shut_down, name="end-of-traces", daemon=True)
        thread.start()
        thread.join(STOP_SECONDS)


def event_context() -> dict[str, str]:
    """Return the member of an event's `tracking` that names the current span; empty if it is not recorded."""
    return {EVENT_KEY: context} if active and (context := active.current_context()) else {}


def without_context(tracking: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the tracking of an event as its partner sees it."""
    return {name: value for name, value in tracking.items() if name != EVENT_KEY} if EVENT_KEY in tracking else tracking


def delivery(kind: str, *, url: str, headers: dict[str, str], tracking: Mapping[str, Any]) -> "AbstractContextManager[DeliverySpan | None]":
    """Span the delivery of a message to a webhook, and add its context to the headers.

    :param kind: of the event.
    :param tracking: of the event, which may name the span of its call.
    """
    return active.delivery(kind, url=url, headers=headers, tracking=tracking) if active else UNTRACED
