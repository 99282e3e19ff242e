"""A call that is wrong in several ways gets the refusal of the first failing check."""

from typing import Any

import pytest

from tests.api.conftest import Api, Sells, Unchanged

FINISH = "/baskets/users/ada/checkout/sessions/finish-active"
# Each call is wrong in the ways of its line and of all lines below, and right in those above.
VERSION = {"x_jay_api_version": "1999-01-01"}
TOKEN = {"Authorization": "Bearer x"}
ACCEPT = {"Accept": "text/html"}
FORM = {"content_type": "application/x-www-form-urlencoded"}
LARGE = b'{"ordered": "false", "fill": "' + b"x" * 300_000 + b'"}'
WRONG = b'{"ordered": "false"}'
MALFORMED_KEY = {"Idempotency_Key": "ä"}


@pytest.mark.parametrize(
    ("method", "path", "options", "expected"),
    [
        ("PUT", "/baskets//users", VERSION | TOKEN | ACCEPT | FORM, (404, 404, "not_found")),
        ("PUT", FINISH, VERSION | TOKEN | ACCEPT | FORM, (405, 405, "method_not_allowed")),
        ("POST", FINISH, VERSION | TOKEN | ACCEPT | FORM, (406, 406, "version_unsupported")),
        ("POST", FINISH, TOKEN | ACCEPT | FORM, (401, 401, "api_key_missing")),
    ],
)
def test_checks_before_authentication(db: None, method: str, path: str, options: dict[str, str], expected: Any) -> None:
    assert Api(None).request(method, path, raw=LARGE, **options).refusal == expected


@pytest.mark.parametrize(
    ("options", "raw", "expected"),
    [
        (TOKEN | ACCEPT | FORM | MALFORMED_KEY, LARGE, (401, 2002, "token_invalid")),
        (ACCEPT | FORM | MALFORMED_KEY, LARGE, (406, 406, "not_acceptable")),
        (FORM | MALFORMED_KEY, LARGE, (415, 3002, "unsupported_media_type")),
        (MALFORMED_KEY, LARGE, (413, 3002, "body_too_large")),
        (MALFORMED_KEY, WRONG, (422, 3002, "validation_failed")),
        ({"Idempotency_Key": "used"}, WRONG, (422, 3002, "validation_failed")),
        ({"Idempotency_Key": "used"}, b'{"ordered": true}', (422, 422, "idempotency_key_reused")),
        ({}, b'{"ordered": true}', (422, 422, "no_active_checkout")),
    ],
)
def test_checks_after_authentication(
    api: Api, sells: Sells, options: dict[str, str], raw: bytes | None, expected: Any, unchanged: Unchanged
) -> None:
    sells("p1")
    api.post("/baskets/users/ada/products/p1", Idempotency_Key="used")
    unchanged()
    assert api.request("POST", FINISH, raw=raw, **options).refusal == expected


def test_one_refusal_names_all_content_errors(api: Api, unchanged: Unchanged) -> None:
    unchanged()
    answer = api.post(
        f"/baskets/users/{'x' * 256}/checkout/sessions?testMode=maybe",
        {"language": 1, "stripeUsingSdk": "yes"},
        Idempotency_Key="a b",
    )
    assert answer.refusal == (422, 3002, "validation_failed")
    assert answer.fields == {"userId", "testMode", "language", "stripeUsingSdk", "Idempotency-Key"}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/baskets/users/ada", {"GET", "HEAD", "DELETE"}),
        ("/baskets/users/ada/products/p1", {"POST", "PATCH", "DELETE"}),
        ("/baskets/users/ada/checkout/sessions", {"POST"}),
        (FINISH, {"POST"}),
        ("/baskets/users/ada/checkout/sessions/0000", {"GET", "HEAD"}),
        ("/baskets/products/details", {"POST"}),
        ("/baskets/guests", {"POST"}),
        ("/baskets/.well-known/jwks.json", {"GET", "HEAD"}),
        ("/livez", {"GET", "HEAD"}),
        ("/readyz", {"GET", "HEAD"}),
        ("/schema", {"GET", "HEAD"}),
        ("/docs", {"GET", "HEAD"}),
        ("/redoc", {"GET", "HEAD"}),
    ],
)
def test_405_names_the_allowed_methods(api: Api, path: str, allowed: Any) -> None:
    for prefix in ("", "/v2") if path.startswith("/baskets") else ("",):
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "get"} - allowed - {"get"}:
            answer = api.request(method, prefix + path)
            assert answer.refusal == (405, 405, "method_not_allowed")
            assert set(answer.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize(
    "path",
    ["/baskets/", "/baskets/users", "/baskets/users/", "/baskets/users/ada/", "/baskets//users/ada",
     "//baskets/users/ada", "/baskets/users//products/p1", "/baskets/users/ada/products", "/baskets/users/ada/products/",
     "/baskets/users/ada/products/a/b", "/baskets/users/ada/products/a%2Fb", "/baskets/users/a%2Fb",
     "/baskets/users/ada/checkout/sessions/", "/baskets/users/ada/checkout/sessions/finish-active/",
     "/baskets/users/ada/checkout/sessions/0000/x", "/v2", "/v2/", "/v2/v2/baskets/users/ada", "/v1/baskets/users/ada",
     "/BASKETS/users/ada", "/v2/livez", "/livez/", "/redoc//", "/static/nothing.js", "/favicon.ico", "/.env",
     "/baskets/guests/", "/baskets/.well-known", "/baskets/.well-known/jwks.json/", "/.well-known/jwks.json",
     "/baskets/users/ada%2F", "/baskets/products/details%0A", "/%00", "/x%0d%0aSet-Cookie:a=b"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_other_addresses_are_not_found_and_do_not_redirect(api: Api, path: str, method: str, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        answer = api.request(method, path)
    assert answer.refusal == (404, 404, "not_found")


@pytest.mark.parametrize(
    ("path", "leads_to"),
    [
        ("/", "/docs"), ("/admin", "/admin/"), ("/docs/", "/docs"),
        ("/docs/start/", "/docs"), ("/docs/retries/", "/docs/retries"), ("/redoc/", "/redoc"),
        ("/docs/errors/busy/", "/docs/errors/busy"), ("/docs/try-it/", "/docs/try-it"), ("/admin?next=//evil.example", "/admin/"),
    ],
)  # fmt: skip
def test_pages_for_people_are_found_without_a_path_and_with_a_slash_too_many_or_too_few(
    api: Api, path: str, leads_to: str, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(0):
        answers = [api.client.generic(method, path, headers=api.headers) for method in ("GET", "HEAD", "POST")]
    assert [answer.status_code for answer in answers] == [301, 301, 405]
    assert {answer.headers["Location"] for answer in answers[:2]} == {leads_to}


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/json", "application/*", "text/html, */*;q=0.1", "application/json; charset=utf-8", "",
     "APPLICATION/JSON", "text/html;q=1,application/json;q=0.1", "application/json;indent=4", "*/*;q=0, application/json"],
)  # fmt: skip
def test_caller_that_accepts_json_gets_json(api: Api, accept: str) -> None:
    answer = api.get("/baskets/users/ada", Accept=accept)
    assert answer.raw == b'{"data":{"cart":[],"saved":[],"checkout":[]}}'


@pytest.mark.parametrize(
    "accept",
    ["text/html", "application/xml", "application/json;q=0", "*/*;q=0", "application/json;q=0, */*", "json", "application",
     "application/jsonp", ";", ",", "application/json;q=x", "\x00", "ä", "x" * 10_000, "text/*;q=0.5, application/pdf"],
)  # fmt: skip
def test_caller_that_does_not_accept_json_is_refused(api: Api, accept: str) -> None:
    assert api.get("/baskets/users/ada", Accept=accept).refusal == (406, 406, "not_acceptable")
