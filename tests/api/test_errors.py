"""Every error response has the envelope, every reason is in the table, and failures reveal no internals."""

import json
from typing import Any

import psycopg
import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpResponse, UnreadablePostError
from django.test import Client, RequestFactory
from rest_framework import exceptions as drf

from baskets.api.exceptions import MESSAGES, TABLE, error_response, response_for_exception
from baskets.api.middleware import EnvelopeMiddleware
from baskets.api.protocol.envelope import json_response
from baskets.api.views import error_pages
from baskets.domain import errors as domain
from tests import seams
from tests.api.conftest import Api, Unchanged
from tests.conftest import Log

SECRET = "secret-of-the-inside"


def test_table_equals_the_contract() -> None:
    assert TABLE == {
        "bad_request": (400, 400),
        "api_key_missing": (401, 401),
        "api_key_invalid": (401, 401),
        "token_missing": (401, 2002),
        "token_invalid": (401, 2002),
        "token_expired": (401, 2002),
        "token_user_mismatch": (401, 2002),
        "server_key_required": (403, 403),
        "guest_not_allowed": (403, 403),
        "transfer_not_allowed": (403, 403),
        "forbidden": (403, 403),
        "not_found": (404, 404),
        "product_unknown": (404, 404),
        "device_unknown": (404, 404),
        "webhook_unknown": (404, 404),
        "basket_not_found": (404, 2005),
        "product_not_in_basket": (404, 2006),
        "method_not_allowed": (405, 405),
        "version_unsupported": (406, 406),
        "not_acceptable": (406, 406),
        "request_timeout": (408, 3002),
        "body_too_large": (413, 3002),
        "uri_too_long": (414, 3002),
        "unsupported_media_type": (415, 3002),
        "wrong_cell": (421, 404),
        "header_too_large": (431, 3002),
        "validation_failed": (422, 3002),
        "cart_empty": (422, 422),
        "cart_full": (422, 422),
        "saved_full": (422, 422),
        "out_of_stock": (422, 422),
        "no_active_checkout": (422, 422),
        "checkout_already_ordered": (422, 422),
        "checkout_aborted": (422, 422),
        "checkout_expired": (422, 422),
        "order_unknown": (422, 422),
        "consent_missing": (422, 422),
        "idempotency_key_reused": (422, 422),
        "events_purged": (422, 422),
        "events_rewound": (422, 422),
        "webhooks_full": (422, 422),
        "nothing_to_replay": (422, 422),
        "checkout_active": (423, 423),
        "throttled": (429, 503),
        "internal_error": (500, 3001),
        "busy": (503, 503),
        "database_unavailable": (503, 503),
        "outcome_unknown": (503, 503),
        "overloaded": (503, 503),
        "signing_key_unreadable": (503, 503),
        "token_keys_unavailable": (503, 503),
        "migrations_missing": (503, 503),
        "shutting_down": (503, 503),
    }


def test_every_reason_has_a_message_and_every_refusal_is_in_the_table() -> None:
    assert set(MESSAGES) == set(TABLE)
    refusals = {kind.reason for kind in domain.Refusal.__subclasses__() if kind.__module__ == domain.__name__}
    assert refusals <= set(TABLE)


def test_every_code_is_in_the_enum_of_the_reference() -> None:
    printed = {2002, 2005, 2006, 3001, 3002, 400, 401, 403, 404, 405, 406, 422, 423, 503}
    assert {code for _, code in TABLE.values()} == printed


def database_error(kind: Any, cause: Any) -> Any:
    error = kind(SECRET)
    error.__cause__ = cause(SECRET)
    return error


BUSY, UNAVAILABLE, INTERNAL = (503, 503, "busy"), (503, 503, "database_unavailable"), (500, 3001, "internal_error")
FAULTS = [
    (database_error(OperationalError, psycopg.errors.LockNotAvailable), BUSY),
    (database_error(OperationalError, psycopg.errors.QueryCanceled), BUSY),
    (database_error(OperationalError, psycopg.errors.DeadlockDetected), BUSY),
    (database_error(OperationalError, psycopg.errors.SerializationFailure), BUSY),
    (database_error(OperationalError, psycopg.errors.AdminShutdown), UNAVAILABLE),
    (database_error(OperationalError, psycopg.errors.TooManyConnections), UNAVAILABLE),
    (database_error(OperationalError, psycopg.errors.DiskFull), UNAVAILABLE),
    (database_error(OperationalError, psycopg.errors.ReadOnlySqlTransaction), UNAVAILABLE),
    (database_error(OperationalError, psycopg.OperationalError), UNAVAILABLE),
    (InterfaceError("connection already closed"), UNAVAILABLE),
    (database_error(OperationalError, psycopg.errors.UndefinedTable), INTERNAL),
    (RuntimeError(SECRET), INTERNAL),
    (KeyError(SECRET), INTERNAL),
    (AttributeError(SECRET), INTERNAL),
    (RecursionError(SECRET), INTERNAL),
    (MemoryError(SECRET), INTERNAL),
]


@pytest.mark.parametrize(("error", "expected"), FAULTS, ids=repr)
def test_response_to_a_failure_reveals_no_internals(api: Api, monkeypatch: pytest.MonkeyPatch, log: Log, error: Any, expected: Any) -> None:
    def fail(_: Any) -> None:
        raise error

    seams.BASKET_OF_AN_ANSWER.replace(monkeypatch, fail)
    got = api.get("/baskets/users/ada")
    assert got.refusal == expected
    assert SECRET not in got.raw.decode() + str(got.headers) + log.text


def test_database_failure_while_a_refusal_is_rendered_is_a_503(api: Api, monkeypatch: pytest.MonkeyPatch, unchanged: Unchanged) -> None:
    unchanged()

    def fail(_: Any) -> None:
        raise FAULTS[0][0]

    seams.BASKET_OF_A_REFUSAL.replace(monkeypatch, fail)
    assert api.start().refusal == BUSY


def test_unexpected_error_is_logged_by_place_and_type(api: Api, monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    seams.BASKET_OF_AN_ANSWER.replace(monkeypatch, lambda _: {}[SECRET])
    api.get("/baskets/users/ada")
    [record] = log.lines("unforeseen_error")
    assert record["error"] == ["builtins.KeyError"]
    assert any(" retrieve" in frame for frame in record["trace"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Http404(), (404, "not_found")),
        (drf.NotFound(), (404, "not_found")),
        (PermissionDenied(), (403, "forbidden")),
        (drf.PermissionDenied(), (403, "forbidden")),
        (SuspiciousOperation(), (400, "bad_request")),
        (UnreadablePostError(), (400, "bad_request")),
        (drf.ParseError(), (400, "bad_request")),
        (RequestDataTooBig(), (413, "body_too_large")),
        (drf.Throttled(wait=7.4), (429, "throttled")),
        (drf.Throttled(), (429, "throttled")),
    ],
)
def test_exceptions_of_django_and_drf_have_their_responses(error: Any, expected: Any) -> None:
    response = response_for_exception(error)
    assert (response.status_code, json.loads(response.content)["error"]["details"]["reason"]) == expected


def test_throttled_response_says_how_long_to_wait() -> None:
    assert response_for_exception(drf.Throttled(wait=7.4)).headers["Retry-After"] == "8"
    assert response_for_exception(drf.Throttled(wait=0.1)).headers["Retry-After"] == "1"


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/livez", "/schema", "/nowhere", "/baskets/users/ada", "/static/baskets/desk.js"])
@pytest.mark.parametrize("name", ["testserver", "evil.example"])
def test_every_response_has_the_security_headers(path: str, name: str) -> None:
    response = Client().get(path, headers={"Host": name})
    response.close()
    assert response.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("debug", [True, False])
@pytest.mark.parametrize("path", ["/baskets/users/ada", "/livez", "/nowhere", "/v2/baskets/users/ada"])
@pytest.mark.parametrize("host", ["evil.example", "a b", "[", "x:y", "localhost\x00"])
def test_wrong_host_is_a_bad_request(api: Api, settings: Any, debug: bool, path: str, host: str) -> None:
    settings.DEBUG = debug
    assert api.get(path, Host=host).refusal == (400, 400, "bad_request")


@pytest.mark.parametrize("debug", [True, False])
def test_unknown_address_is_not_found_in_debug_mode(api: Api, settings: Any, debug: bool) -> None:
    settings.DEBUG = debug
    assert api.get("/nowhere").refusal == (404, 404, "not_found")


@pytest.mark.parametrize("path", ["/livez", "/docs", "/schema"])
@pytest.mark.parametrize("debug", [True, False])
def test_failure_outside_of_the_api_is_in_the_envelope(monkeypatch: pytest.MonkeyPatch, settings: Any, path: str, debug: bool) -> None:
    settings.DEBUG = debug

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    seams.BODY_OF_LIVEZ.replace(monkeypatch, fail)
    seams.PAGE_OF_A_GUIDE.replace(monkeypatch, fail)
    seams.DOCUMENT_OF_SCHEMA.replace(monkeypatch, fail)
    response = Client(raise_request_exception=False).get(path)
    assert (response.status_code, response.headers["Content-Type"]) == (500, "application/json")
    assert json.loads(response.content)["error"]["code"] == 3001
    assert SECRET not in response.content.decode()


@pytest.mark.parametrize(
    ("status", "code"), [(400, 400), (403, 403), (404, 404), (405, 405), (413, 3002), (500, 3001), (418, 3001), (502, 3001)]
)
def test_error_response_without_envelope_is_replaced(status: int, code: int) -> None:
    wrapped = EnvelopeMiddleware(lambda _: HttpResponse("<h1>Oh no</h1>", status=status))
    response = wrapped(RequestFactory().get("/x"))
    body = json.loads(response.content)
    assert body["error"]["code"] == code
    assert response.headers["Content-Type"] == "application/json"


def test_success_response_is_passed_on() -> None:
    wrapped = EnvelopeMiddleware(lambda _: json_response("{}"))
    assert wrapped(RequestFactory().get("/x")).content == b"{}"


@pytest.mark.parametrize(
    ("handler", "status"),
    [(error_pages.handler400, 400), (error_pages.handler403, 403), (error_pages.handler404, 404), (error_pages.handler500, 500)],
)
def test_admin_keeps_django_error_pages(handler: Any, status: int) -> None:
    arguments = () if status == 500 else (Exception(),)
    page = handler(RequestFactory().get("/admin/x"), *arguments)
    assert (page.status_code, page.headers["Content-Type"]) == (status, "text/html; charset=utf-8")
    envelope = handler(RequestFactory().get("/x"), *arguments)
    assert (envelope.status_code, envelope.headers["Content-Type"]) == (status, "application/json")


def test_reason_of_an_error_is_in_its_details() -> None:
    response = error_response("busy")
    assert json.loads(response.content) == {"error": {"code": 503, "message": MESSAGES["busy"], "details": {"reason": "busy"}}}
    assert response.headers["Retry-After"] == "1"
