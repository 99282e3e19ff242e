"""The WSGI handler: what it must not leave out of Django's."""

import io
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from basket_project.handler import Handler


def call(path: str, *, method: str = "GET") -> tuple[str, dict[str, str], Callable[[], None]]:
    """Answer a request; return status, headers, and what the process server calls once the response is sent."""
    started: list[Any] = []
    environ = {"REQUEST_METHOD": method, "PATH_INFO": path, "HTTP_HOST": "testserver", "SERVER_NAME": "", "SERVER_PORT": "80"}
    response = Handler()(environ | {"wsgi.input": io.BytesIO(), "wsgi.url_scheme": "http"}, lambda *given: started.extend(given))
    return started[0], dict(started[1]), response.close


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
