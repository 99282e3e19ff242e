"""The WSGI handler: what it must not leave out of Django's."""

import gc
import io
from collections.abc import Callable
from typing import Any

import pytest
from django.core.handlers.wsgi import WSGIRequest
from django.db import connections
from django.http import HttpResponse

from basket_project.handler import Handler, Request
from baskets.api.protocol.envelope import json_response
from baskets.domain.access import api_keys
from baskets.models import Partner
from tests.factories import TESTER, ProductFactory


def call(
    path: str, *, method: str = "GET", body: bytes = b"", key: str = "", handler: Handler | None = None
) -> tuple[str, dict[str, str], Callable[[], None]]:
    """Answer a request; return status, headers, and what the process server calls once the response is sent.

    :param handler: one for several calls. Django's test client connects again what a handler disconnects.
    """
    started: list[Any] = []
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "HTTP_HOST": "testserver",
        "SERVER_NAME": "",
        "SERVER_PORT": "80",
    }
    environ |= {"HTTP_X_API_KEY": key, "CONTENT_TYPE": "application/json", "CONTENT_LENGTH": str(len(body))}
    environ |= {"wsgi.input": io.BytesIO(body), "wsgi.url_scheme": "http"}
    response = (handler or Handler())(environ, lambda *given: started.extend(given))
    return started[0], dict(started[1]), response.close


@pytest.mark.parametrize("path", ["/baskets/users/anna", "/baskets/users/zo\xc3\xab", "/baskets//%41;a=b", "/admin/", "//", ""])
@pytest.mark.parametrize("length", ["17", "", "x", "9" * 5000])
@pytest.mark.parametrize("media_type", ["application/json", "Text/Plain; charset=latin-1; a=b", "a/b; charset=none", ""])
def test_request_is_that_of_django(path: str, length: str, media_type: str) -> None:
    def attributes(kind: type[WSGIRequest]) -> dict[str, Any]:
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "CONTENT_TYPE": media_type, "CONTENT_LENGTH": length, "wsgi.input": body}
        found = vars(kind(environ))
        return found | {"_stream": (found["_stream"].limit, found["_stream"].read())}

    body = io.BytesIO()
    assert attributes(Request) == attributes(WSGIRequest)


def test_response_is_that_of_django() -> None:
    response, other = json_response("{}", status=404, headers={"Allow": "GET"}), HttpResponse(b"{}", "application/json", 404)
    for name, value in {"Cache-Control": "no-store", "Content-Length": "2", "Allow": "GET"}.items():
        other.headers[name] = value
    assert vars(response) | {"headers": dict(response.headers)} == vars(other) | {"headers": dict(other.headers)}
    assert (response.content, response.reason_phrase) == (b"{}", "Not Found")


def test_connection_is_checked_when_the_response_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[str] = []
    monkeypatch.setattr(connections["default"], "close_if_unusable_or_obsolete", lambda: checks.append("checked"))
    status, headers, close = call("/livez")
    assert (status, headers["Content-Type"], checks) == ("200 OK", "application/json", [])
    close()
    assert checks == ["checked"]


@pytest.mark.parametrize("method", ["get", "Get", "BREW", "1"])
def test_methods_are_case_sensitive(method: str) -> None:
    status, headers, close = call("/livez", method=method)
    close()
    assert (status, headers["Allow"]) == ("405 Method Not Allowed", "GET, HEAD")


def test_staff_get_their_cookie() -> None:
    _, headers, close = call("/admin/login/")
    close()
    assert headers["Set-Cookie"].startswith("csrftoken=")


CALLS = {
    "place": ("POST", "/products/mug", b'{"count": 2}', "200 OK"),
    "get": ("GET", "", b"", "200 OK"),
    "start": ("POST", "/checkout/sessions", b"", "200 OK"),
    "order": ("POST", "/checkout/sessions/finish-active", b'{"ordered": true}', "200 OK"),
    "repeat of an order": ("POST", "/checkout/sessions/finish-active", b'{"ordered": true}', "200 OK"),
    "refusal of the domain": ("POST", "/products/cup", b"", "404 Not Found"),
    "refusal of the api": ("POST", "/products/mug", b"{", "422 Unprocessable Entity"),
}


def test_calls_leave_nothing_for_the_garbage_collector(partner: Partner, transactional_db: None) -> None:
    """Objects in cycles keep a request, its body and its view until a collection, and each collection takes time of another call."""
    ProductFactory(product_id="mug", unsold=9)
    _, key = api_keys.issue_api_key(partner_name=partner.name, kind="server", actor=TESTER)
    handler, left = Handler(), dict[str, int]()
    for user in ("warm", "anna"):  # The first calls fill caches.
        for name, (method, path, body, expected) in CALLS.items():
            gc.collect()
            gc.disable()
            try:
                status, _, close = call(f"/baskets/users/{user}{path}", method=method, body=body, key=key, handler=handler)
                close()
                left[name] = gc.collect()
            finally:
                gc.enable()
            assert status == expected
    assert left == dict.fromkeys(CALLS, 0)
