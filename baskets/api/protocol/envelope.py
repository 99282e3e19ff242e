"""The one shape of every answer, `data` or `error`, as compact JSON. What goes inside is decided elsewhere."""

import json
from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse

encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

# The attribute of a response under which the log finds the reason of a refusal.
REASON_ATTRIBUTE = "api_reason"


def success_body(data: Any, *, next_token: str | None = None) -> str:
    """Put an answer into its envelope, with the token of the next page where there is one."""
    return encode_json({"data": data} | ({} if next_token is None else {"nextToken": next_token}))


def json_response(body: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> HttpResponse:
    """Send a body that is in its envelope already.

    An answer speaks of one user at one moment, so nobody on the way may keep it.
    """
    response = HttpResponse(body.encode(), status=status, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    response.headers["Content-Length"] = str(len(response.content))
    for name, value in (headers or {}).items():
        response.headers[name] = value
    return response


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
    """Say why a call was not done.

    :param details: what else a program needs to know, beside the reason.
    :param extra: what stands beside `error`: the unchanged basket, as `data`.
    """
    error = {"code": code, "message": message, "details": {"reason": reason, **(details or {})}}
    response = json_response(encode_json({**(extra or {}), "error": error}), status=status, headers=headers)
    setattr(response, REASON_ATTRIBUTE, reason)
    return response
