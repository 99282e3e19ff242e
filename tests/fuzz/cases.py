"""What a case of the corpus is made of: what is sent, and what must come back.

The key stands in a case as `{key}`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fuzz.wire import request

ExpectedResponse = int | tuple[int, int, str]

BOB = "/baskets/users/bob"
ADA = "/baskets/users/ada"
SESSIONS = f"{ADA}/checkout/sessions"
FINISH = f"{SESSIONS}/finish-active"
PLACE = f"{ADA}/products/p1"
KEY = "X-API-Key: {key}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
# Refused for its content only: whatever else is wrong with a request must have been noticed before.
MAYBE = b'{"ordered": "maybe"}'
FALSE = b'{"ordered": false}'

FINE = 200
BAD = (400, 400, "bad_request")
NO_KEY = (401, 401, "api_key_missing")
BAD_KEY = (401, 401, "api_key_invalid")
BAD_TOKEN = (401, 2002, "token_invalid")
NOT_FOUND = (404, 404, "not_found")
METHOD = (405, 405, "method_not_allowed")
VERSION = (406, 406, "version_unsupported")
ACCEPT = (406, 406, "not_acceptable")
LONG_TARGET = (414, 3002, "uri_too_long")
LONG_HEADER = (431, 3002, "header_too_large")
LARGE = (413, 3002, "body_too_large")
MEDIA = (415, 3002, "unsupported_media_type")
INVALID = (422, 3002, "validation_failed")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input.

    :param logged: whether a line of the log tells how long it took; the others are answered without any work.
    :param then_closed: whether the connection must be closed afterwards, because the start of the next request is unknown.
    """

    name: str
    raw: bytes
    answer: ExpectedResponse
    logged: bool = True
    then_closed: bool = False
    head_only: bool = False


def get(target: str | bytes, *headers: str | bytes, **options: object) -> bytes:
    """Read something, with a good key."""
    return request("GET", target, KEY, *headers, **options)  # type: ignore[arg-type]


def post(body: bytes, *headers: str | bytes, to: str = FINISH, **options: object) -> bytes:
    """Send a body, with a good key; as JSON unless another type is named."""
    return request("POST", to, KEY, *headers, body=body, **options)  # type: ignore[arg-type]


def finish(body: bytes, *headers: str | bytes, **options: object) -> bytes:
    """Send JSON to finish-active."""
    return post(body, JSON, *headers, **options)


def cases(expected: ExpectedResponse, *named: tuple[str, bytes]) -> list[Case]:
    """Make cases of one answer."""
    return [Case(name=name, raw=raw, answer=expected) for name, raw in named]


def whole(*bodies: bytes) -> Sequence[tuple[str, bytes]]:
    """Name cases by their bodies."""
    return [(f"{number}. {body[:40]!r}", finish(body)) for number, body in enumerate(bodies)]
