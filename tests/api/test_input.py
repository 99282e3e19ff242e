"""Hostile and broken input: refused in the envelope, fast, and without a change in the database."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.signals import request_started
from django.db import close_old_connections
from django.test import RequestFactory

from basket_project.wsgi import application
from baskets.api.parsers import StrictJSONParser
from tests.api.conftest import Api, Sells, Unchanged

FINISH = "/baskets/users/ada/checkout/sessions/finish-active"
PLACE = "/baskets/users/ada/products/p1"
INVALID = (422, 3002, "validation_failed")
MEDIA = (415, 3002, "unsupported_media_type")
LARGE = (413, 3002, "body_too_large")
LIMIT = 256 * 1024


@pytest.fixture(autouse=True)
def active_checkout(api: Api, sells: Sells, unchanged: Unchanged) -> Iterator[None]:
    """An active checkout that none of the inputs below may change."""
    sells("p1", unsold=5)
    api.place("p1", 2)
    api.start()
    unchanged()
    started = time.perf_counter()
    yield
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "content_type",
    ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", "text/json", "application/xml",
     "application/jsonp", "application/vnd.api+json", "application/json, text/html", "json", "", "ä", "application/json/x",
     "application/json; charset=latin-1", "application/json; charset=utf-16", "application/json;charset=rot13",
     "application/json; charset=nothing", "application/json; charset=", "x" * 5000],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"), [("POST", FINISH), ("POST", PLACE), ("PATCH", PLACE), ("DELETE", PLACE), ("DELETE", PLACE[:18])]
)
def test_body_must_be_json_in_utf8(api: Api, content_type: str, method: str, path: str) -> None:
    answer = api.request(method, path, raw=b'{"ordered": false}', content_type=content_type)
    assert answer.refusal == MEDIA


@pytest.mark.parametrize("encoding", ["gzip", "identity", "br", "deflate, gzip", "x"])
def test_compressed_body_is_refused(api: Api, encoding: str) -> None:
    assert api.request("POST", FINISH, raw=b'{"ordered": false}', Content_Encoding=encoding).refusal == MEDIA


@pytest.mark.measured
@pytest.mark.parametrize(
    "raw",
    [b"{", b"}", b"[", b'{"ordered": false', b'{"ordered": False}', b"{'ordered': false}", b'{"ordered": false,}',
     b'{"ordered": false} x', b'{"ordered": false}{}', b"nul", b" ", b"\n", b"\x00", b'{"ordered": false}\x00',
     b'\xef\xbb\xbf{"ordered": false}', b'{"ordered": false, "x": "\xff"}', b'{"ordered": false, "\xc0\xaf": 1}',
     b'{"ordered": false, "x": "\xed\xa0\x80"}', '{"ordered": false}'.encode("utf-16"), '{"ordered": false}'.encode("utf-32"),
     b'{"ordered": false, "x": NaN}', b'{"ordered": false, "x": Infinity}', b'{"ordered": false, "x": -Infinity}',
     b'{"ordered": true, "ordered": false}', b'{"ordered": false, "x": {"a": 1, "a": 1}}', b'{"ordered": false, "x": [{"": 1, "": 2}]}',
     b'{"ordered": false, "\\u006frdered": false}', b'{"ordered": false, "\\udfff": 1, "\\udfff": 2}',
     b'{"ordered": false, "x": "tab\there"}', b'{"ordered": false, "x": 01}', b'{"ordered": false, "x": +1}',
     b'{"ordered": false, "x": .5}', b'{"ordered": false, "x": 0x10}', b'{"ordered": false /* no */}', b'{"ordered": false, "x": "\\x41"}',
     b"[" * 100_000, b'{"a":' * 50_000, b"[" * 40 + b"]" * 40, b'{"ordered": false, "x": ' + b"[" * 33 + b"]" * 33 + b"}",
     b'{"ordered": false, "x": "' + b'\\"[' * 40_000, b'"' * 200_001, b'"\\' * 100_000, b'["' + b"[" * 200_000],
)  # fmt: skip
@pytest.mark.parametrize("method_and_path", [("POST", FINISH), ("PATCH", PLACE)])
def test_invalid_json_is_refused(api: Api, raw: bytes | None, method_and_path: Any) -> None:
    answer = api.request(*method_and_path, raw=raw)
    assert answer.refusal == INVALID
    assert answer.fields == {"body"}


@pytest.mark.parametrize("raw", [b"null", b"true", b"0", b'""', b'"ordered"', b"[]", b'[{"ordered": false}]', b"1.5"])
def test_body_must_be_an_object(api: Api, raw: bytes | None) -> None:
    answer = api.request("POST", FINISH, raw=raw)
    assert answer.refusal == INVALID
    assert answer.fields == {"body"}


@pytest.mark.parametrize(
    "count", ["2147483648", "9223372036854775808", "1000", "1e3", "-2", "-2.0", "1.5", "25e-1", "2.0000000000000000000000000001",
              "1e-400", "-1e-400", "1e400", "-1e400", "1e999999999", "1e-999999999", "1e" + "9" * 50, "1e-" + "9" * 50,
              '"3"', '"3.0"', '""', "true", "false", "[]", "{}", "[1]", "9" * 99, "9" * 101, "9" * 5000, "0." + "9" * 5000, "9" * 200_000]
)  # fmt: skip
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_count_must_be_a_whole_number_within_its_limits(api: Api, count: Any, method: str) -> None:
    answer = api.request(method, PLACE, raw=b'{"count": %s}' % count.encode())
    assert answer.refusal == INVALID
    assert answer.fields == {"count"}


def test_null_count_is_refused_by_post(api: Api) -> None:
    answer = api.post(PLACE, {"count": None})
    assert answer.refusal == INVALID
    assert answer.fields == {"count"}


def test_body_of_10_mb_is_too_large(api: Api) -> None:
    assert api.request("POST", FINISH, raw=b" " * 10_000_000).refusal == LARGE


def test_body_one_byte_over_the_limit_is_refused(api: Api) -> None:
    padded = b'{"ordered": 1, "x": "%s"}'
    padding = b"x" * (LIMIT - len(padded) + 2)
    assert len(padded % padding) == LIMIT
    assert api.request("POST", FINISH, raw=padded % padding).refusal == INVALID
    assert api.request("POST", FINISH, raw=padded % padding + b" ").refusal == LARGE


@pytest.mark.parametrize(
    "bad", ["%00", "a%00b", "%0A", "a%0d%0ab", "%7F", "%C2%85", "%E2%80%A8", "%E2%80%A9", "%1b[2J", "x" * 256, "x" * 5000]
)
def test_ids_have_a_bounded_length_and_no_control_characters(api: Api, bad: Any) -> None:
    for method, path, field in (
        ("GET", f"/baskets/users/{bad}", "userId"),
        ("DELETE", f"/baskets/users/{bad}", "userId"),
        ("POST", f"/baskets/users/{bad}/products/p1", "userId"),
        ("PATCH", f"/baskets/users/ada/products/{bad}", "productId"),
        ("DELETE", f"/v2/baskets/users/ada/products/{bad}", "productId"),
        ("POST", f"/baskets/users/{bad}/checkout/sessions", "userId"),
    ):
        answer = api.request(method, path)
        assert answer.refusal == INVALID
        assert answer.fields == {field}


@pytest.mark.parametrize("query", ["a=1&" * 2000, "testMode=true&" * 2000, "%ff=%ff", "testMode=%ff", "&&&=;=", "testMode=true;"])
def test_broken_query_is_refused(api: Api, query: str) -> None:
    answer = api.post(f"/baskets/users/bob/checkout/sessions?{query}", content_type="application/json; charset=rot13")
    assert answer.status == 422


# --- What the test client cannot say: raw paths, broken framing, bodies of unknown length -------------------


def serve(method: str, path: str, *, key: str, body: Any = b"", **environ: Any) -> Any:
    """Call the WSGI application, and return status, headers and JSON."""
    started = {}

    def start_response(status: int, headers: dict[str, str], _: Any = None) -> None:
        started.update(status=int(status[:3]), headers=dict(headers))

    request = RequestFactory()._base_environ(REQUEST_METHOD=method, PATH_INFO=path, HTTP_X_API_KEY=key)
    request |= {"wsgi.input": io.BytesIO(body), "CONTENT_TYPE": "application/json"} | environ
    # As Django's test client does: the connection of the test must outlive the request.
    request_started.disconnect(close_old_connections)
    try:
        raw = b"".join(application(request, start_response))
    finally:
        request_started.connect(close_old_connections)
    return started["status"], started["headers"], json.loads(raw)


@pytest.mark.parametrize("raw", [b"/baskets/users/a\xff", b"/baskets/users/\xc0\xaf", b"/baskets/users/\xed\xa0\x80", b"/\xe4",
                                 b"/baskets/users/ada/products/p\xfc"])  # fmt: skip
def test_path_that_is_not_utf8_is_not_found(api: Api, raw: bytes | None) -> None:
    status, headers, body = serve("GET", raw.decode("latin-1"), key=api.key)
    assert (status, body["error"]["details"]["reason"]) == (404, "not_found")
    assert headers["Content-Type"] == "application/json"


def test_path_in_utf8_is_accepted(api: Api) -> None:
    status, _, body = serve("GET", "/baskets/users/日本".encode().decode("latin-1"), key=api.key)
    assert (status, body) == (200, {"data": {"cart": [], "saved": [], "checkout": []}})


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "1e3", "0x1", "٣", " 5"])
def test_invalid_content_length_is_a_bad_request(api: Api, length: str) -> None:
    status, _, body = serve("POST", FINISH, key=api.key, body=b'{"ordered": false}', CONTENT_LENGTH=length)
    assert (status, body["error"]["code"]) == (400, 400)


def test_truncated_body_is_a_bad_request(api: Api) -> None:
    status, _, body = serve("POST", FINISH, key=api.key, body=b'{"ordered": false}', CONTENT_LENGTH="50")
    assert (status, body["error"]["details"]["reason"]) == (400, "bad_request")


def test_absurd_content_length_is_too_large(api: Api) -> None:
    status, _, body = serve("POST", FINISH, key=api.key, CONTENT_LENGTH="9" * 5000)
    assert (status, body["error"]["code"]) == (413, 3002)


CHUNKED = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}


def test_chunked_body_is_bounded_while_it_is_read(api: Api) -> None:
    status, _, body = serve("POST", FINISH, key=api.key, body=b" " * (LIMIT + 1), **CHUNKED)
    assert (status, body["error"]["details"]["reason"]) == (413, "body_too_large")


def test_chunked_body_is_read(api: Api) -> None:
    status, _, body = serve("POST", FINISH, key=api.key, body=b'{"ordered": 1}', **CHUNKED)
    assert (status, set(body["error"]["details"]["fields"])) == (422, {"ordered"})


def test_chunked_body_must_be_json(api: Api) -> None:
    status, _, _ = serve("POST", FINISH, key=api.key, body=b"ordered=false", **CHUNKED | {"CONTENT_TYPE": "text/plain"})
    assert status == 415


def test_empty_chunked_body_is_a_bad_request(api: Api) -> None:
    status, _, body = serve("POST", FINISH, key=api.key, **CHUNKED)
    assert (status, body["error"]["details"]["reason"]) == (400, "bad_request")


@pytest.mark.parametrize("coding", ["gzip, chunked", "identity", "", "chunked, chunked", "xchunked"])
def test_other_transfer_coding_is_a_bad_request(api: Api, coding: str) -> None:
    status, _, _ = serve("POST", FINISH, key=api.key, body=b'{"ordered": false}', **CHUNKED | {"HTTP_TRANSFER_ENCODING": coding})
    assert status == 400


def test_chunked_body_needs_a_server_that_marks_its_end(api: Api) -> None:
    status, _, _ = serve("POST", FINISH, key=api.key, body=b'{"ordered": false}', HTTP_TRANSFER_ENCODING="chunked")
    assert status == 400


def test_drf_parser_uses_the_same_parser(api: Api) -> None:
    assert StrictJSONParser().parse(io.BytesIO(b'{"a": [1]}')) == {"a": [1]}
