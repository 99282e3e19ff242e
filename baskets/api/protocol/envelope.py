"""Builds responses: the envelope with `data` or `error`, as compact JSON. Does not decide what goes into it."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.http import HttpResponse, SimpleCookie
from django.http.response import HttpResponseBase, ResponseHeaders

encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

# The attribute of a response in which the log and the metrics find the reason of a refusal.
REASON_ATTRIBUTE = "api_reason"
FIXED_HEADERS = ResponseHeaders({"Content-Type": "application/json", "Cache-Control": "no-store"})


def success_body(data: Any, *, next_token: str | None = None) -> str:
    """Return the body of a success.

    :param next_token: the token of the next page of a list.
    """
    return encode_json({"data": data} | ({} if next_token is None else {"nextToken": next_token}))


def json_response(body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Return a response with a body that is already JSON.

    Caches must not store it: it describes one user at one moment.
    """
    response = JsonResponse(body.encode(), status=status)
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


class JsonResponse(HttpResponse):
    """Django's response with JSON and its fixed headers, in a third of the instructions: there is nothing to check.

    :param content: JSON.
    """

    def __init__(self, content: bytes, *, status: int) -> None:
        self.status_code = status
        self.headers = ResponseHeaders({})
        self.headers._store = {**FIXED_HEADERS._store, "content-length": ("Content-Length", str(len(content)))}  # noqa: SLF001 (see below)
        self.cookies = SimpleCookie()
        self.closed = False
        self._container = [content]
        self._charset = self._reason_phrase = self._handler_class = None
        self._resource_closers: list[Callable[[], object]] = []


# The attribute `_store` of Django's headers holds the names and values that were checked, by the lower-case names.


def add_missing_headers(response: HttpResponseBase, defaults: ResponseHeaders) -> None:
    """Add headers that the response does not have yet: all at once, because Django checks each that is added singly."""
    headers = response.headers
    headers._store = {**defaults._store, **headers._store}  # noqa: SLF001 (see above)


def set_plain_header(response: HttpResponseBase, name: str, value: str) -> None:
    """Set a header whose value this service has made or checked: without the search for line breaks and other characters."""
    response.headers._store[name.lower()] = (name, value)  # noqa: SLF001 (see above)


def has_plain_header(response: HttpResponseBase, name: str) -> bool:
    """Return whether a header is set, without the exception that Django catches where it is not.

    :param name: in lower case.
    """
    return name in response.headers._store  # noqa: SLF001 (see above)


def header_fields(response: HttpResponseBase) -> Iterable[tuple[str, str]]:
    """Return the names and values of all headers, without the search for each name that `items` does."""
    return response.headers._store.values()  # noqa: SLF001 (see above)


def failure_response(
    *,
    status: int,
    code: int,
    reason: str,
    message: str,
    details: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> HttpResponse:
    """Return the response to a call that was refused or failed.

    :param details: the members of `error.details` beside `reason`, for programs.
    :param extra: members beside `error`: the unchanged basket, as `data`.
    """
    error = {"code": code, "message": message, "details": {"reason": reason, **(details or {})}}
    response = json_response(encode_json({**(extra or {}), "error": error}), status=status, headers=headers)
    setattr(response, REASON_ATTRIBUTE, reason)
    return response
