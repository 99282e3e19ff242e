"""Traces: one for each call, with its round trips and the deliveries of its events, and nothing in them that identifies a user."""

import json
import re
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from baskets import tracing
from baskets.api.middleware import EnvelopeMiddleware
from baskets.domain.events import webhook_endpoints, webhook_requests
from baskets.domain.events.payloads import entry_of
from baskets.models import Event, FeedPosition, Partner, WebhookEndpoint
from baskets.tracing.spans import Spans
from tests.api.conftest import Api, Lines, Sells
from tests.domain.events.receivers import receiver
from tests.factories import TESTER

TRACE_ID, PARENT_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{PARENT_ID}-01"
USER = "ada.lovelace@example.com"
HEX_ID = re.compile(r"\b(0x)?[0-9a-f]{16,32}\b")

Finished = Callable[[], list[ReadableSpan]]


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[Finished]:
    """Switch traces on; return a function that yields the spans since its last call, in the order of their beginnings."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(tracing, "active", Spans(provider))
    settings.MIDDLEWARE = ["baskets.api.request_spans.RequestSpans", *settings.MIDDLEWARE]

    def finished() -> list[ReadableSpan]:
        found = sorted(exporter.get_finished_spans(), key=lambda span: span.start_time or 0)
        exporter.clear()
        return found

    yield finished
    provider.shutdown()


def trace_of(span: ReadableSpan) -> str:
    return format(span.context.trace_id, "032x")


def round_trips(spans: list[ReadableSpan]) -> list[ReadableSpan]:
    return [span for span in spans if span.kind is SpanKind.CLIENT]


@pytest.mark.django_db(transaction=True)
def test_a_call_is_a_span_with_one_child_for_each_round_trip_named_by_its_statements(api: Api, sells: Sells, finished: Finished) -> None:
    sells("mug", unsold=3)
    api.place("mug", user=USER)
    finished()
    Api(api.key, {"traceparent": TRACEPARENT}).start(user=USER, query="?testMode=true")  # No direct start.
    call, *trips = finished()
    assert call.kind is SpanKind.SERVER
    assert call.name.startswith("POST ")
    assert call.name.endswith("/checkout/sessions")
    assert call.attributes == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.route": call.name.removeprefix("POST "),
        "http.response.status_code": 200,
    }
    assert call.parent is not None
    assert (trace_of(call), format(call.parent.span_id, "016x"), call.parent.is_remote) == (TRACE_ID, PARENT_ID, True)
    assert len(trips) == 2  # As the table of round trips promises.
    assert {trip.parent and trip.parent.span_id for trip in trips} == {call.context.span_id}
    names = [trip.name.split() for trip in trips]
    assert names[0][0] == "begin"
    assert names[-1][-1] == "commit"
    assert "insert_event" in names[-1]
    for trip, statements in zip(trips, names, strict=True):
        assert trip.attributes == {
            "db.system.name": "postgresql",
            "db.query.summary": trip.name,
            "db.operation.batch.size": len(statements),
        }


def test_no_span_holds_a_path_a_value_a_key_or_a_message(api: Api, sells: Sells, finished: Finished) -> None:
    sells("mug", unsold=0)
    api.place("mug", user=USER)
    refused = api.start(user=USER)
    assert refused.refusal[2] == "out_of_stock"
    with connection.execute_wrapper(_fails):
        assert api.get(f"/baskets/users/{USER}").status == 500
    Api("bk_wrong_key").get(f"/baskets/users/{USER}")
    spans = finished()
    text = HEX_ID.sub("", "\n".join(span.to_json() for span in spans))  # A random id may spell a secret.
    assert len(spans) > 4
    for secret in (USER, "ada", "mug", str(api.key), "bk_wrong", "quoted"):
        assert secret not in text
    reasons = [span.attributes.get("baskets.reason") for span in spans if span.kind is SpanKind.SERVER and span.attributes]
    assert reasons == [None, "out_of_stock", "internal_error", "api_key_invalid"]
    failed = [span for span in spans if span.status.status_code is StatusCode.ERROR and span.kind is SpanKind.SERVER]
    assert [span.attributes and span.attributes["error.type"] for span in failed] == ["500"]
    assert not any(span.events for span in spans)


def _fails(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
    raise RuntimeError("a quoted value")


def test_a_call_that_is_not_sampled_has_no_spans_and_leaves_no_context(api: Api, sells: Sells, finished: Finished) -> None:
    sells("mug")
    Api(api.key, {"traceparent": TRACEPARENT[:-1] + "0"}).place("mug")
    assert finished() == []
    assert Event.objects.get().tracking == {}


@pytest.mark.parametrize("state", [f"vendor={USER}", f"vendor {USER}"])
def test_tracestate_is_neither_exported_nor_logged(api: Api, finished: Finished, caplog: pytest.LogCaptureFixture, state: str) -> None:
    api.get("/baskets/users/ada", traceparent=TRACEPARENT, tracestate=state)
    call = finished()[0]
    assert trace_of(call) == TRACE_ID
    assert USER not in call.to_json()
    assert USER not in caplog.text


@pytest.mark.parametrize("value", ["", "00", TRACEPARENT.upper() + "x", f"ff-{TRACE_ID}-{PARENT_ID}-01", "x" * 4000])
def test_a_broken_traceparent_begins_a_new_trace(api: Api, finished: Finished, value: str) -> None:
    api.get("/baskets/users/ada", traceparent=value)
    call = finished()[0]
    assert call.parent is None
    assert trace_of(call) != TRACE_ID


@pytest.mark.django_db(transaction=True)
def test_a_delivery_is_in_the_trace_of_its_event_linked_to_its_call_and_passes_the_context_on(
    api: Api, sells: Sells, partner: Partner, finished: Finished, settings: Any
) -> None:
    settings.BASKETS_INTERNAL_ADDRESSES = True
    sells("mug")
    with receiver() as hook:
        endpoint, _ = webhook_endpoints.create_webhook(partner_name=partner.name, url=hook.url, actor=TESTER)
        Api(api.key, {"traceparent": TRACEPARENT, "X-JAY-Tracking": "eyJzb3VyY2UiOiAidHYifQ=="}).place("mug", user=USER)
        (call,) = [span for span in finished() if span.kind is SpanKind.SERVER]
        # The deliverer is another process, which knows the event alone.
        page = api.get("/baskets/events").data
        finished()
        _deliver(endpoint)
        ((headers, body),) = hook.calls
    (sent,) = finished()
    assert (sent.name, sent.kind) == ("POST webhook item_placed", SpanKind.PRODUCER)
    assert sent.attributes == {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "baskets.event.kind": "item_placed",
        "http.response.status_code": 200,
    }
    assert [link.context.span_id for link in sent.links] == [call.context.span_id]
    assert headers["traceparent"] == f"00-{TRACE_ID}-{sent.context.span_id:016x}-01"
    assert Event.objects.get().tracking == {"source": "tv", "traceparent": f"00-{TRACE_ID}-{call.context.span_id:016x}-01"}
    assert json.loads(body)["data"]["tracking"] == {"source": "tv"} == page[0]["tracking"]


def _deliver(endpoint: WebhookEndpoint) -> None:
    place = FeedPosition.objects.select_related("event__basket", "event__session").get()
    signers = webhook_requests.Signers(endpoint)
    webhook_requests.send_event(endpoint, entry_of(place), signers=signers, now=datetime.now(UTC))


def test_the_line_of_a_call_names_its_trace(api: Api, finished: Finished, lines: Lines) -> None:
    api.get("/baskets/users/ada", traceparent=TRACEPARENT)
    assert [line["trace_id"] for line in lines("request")] == [TRACE_ID]


def test_monitors_have_no_spans(api: Api, finished: Finished) -> None:
    api.client.get("/livez")
    api.client.get("/readyz")
    assert finished() == []


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "baskets"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "otlp"}, False),
    ],
)
def test_the_variables_of_opentelemetry_switch_traces_on(
    variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert tracing.is_requested() is expected


@pytest.mark.parametrize(
    "variables", [{"OTEL_TRACES_EXPORTER": "zipkin"}, {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}]
)
def test_another_exporter_or_protocol_stops_the_start_with_a_sentence(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ImproperlyConfigured, match=r"OTLP over HTTP only"):
        tracing.is_requested()


def test_without_the_packages_the_start_names_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setitem(sys.modules, "baskets.tracing.spans", None)
    with pytest.raises(ImproperlyConfigured, match="setup tracing"):
        tracing.start()


def test_where_traces_are_off_nothing_is_installed_in_the_way_of_a_call(settings: Any) -> None:
    assert tracing.active is None
    assert settings.MIDDLEWARE[0].endswith(EnvelopeMiddleware.__name__)
