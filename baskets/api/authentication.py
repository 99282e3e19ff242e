"""Who is calling: the API key of every call, and the bearer token of those that need or bring one.

What a caller may do beyond that is not decided here.
"""

import functools
import hmac
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.request import Request

from baskets.api.errors import ApiError
from baskets.database import reading
from baskets.domain.partners import key_digest, key_prefix
from baskets.models import ApiKey
from baskets.pipeline import execute

KEY_CHALLENGE = 'ApiKey realm="baskets", header="X-API-Key"'
# No key is issued with this prefix, so the look-up for a malformed key costs the same and finds nothing.
NOBODY = "-"
NO_DIGEST = bytes(32)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The partner's software that makes a call, known by its key."""

    partner_id: int
    partner: str
    prefix: str
    kind: str
    calls_per_minute: int | None

    @property
    def in_an_app(self) -> bool:
        """Tell whether the key ships inside apps, so that it proves nothing about the user."""
        return self.kind == ApiKey.Kind.CLIENT


class ApiKeyAuthentication(BaseAuthentication):
    """DRF's door to the key of a call: `request.user` is the `Caller`."""

    def authenticate(self, request: Request) -> tuple[Caller, None]:
        """Find the caller by the key."""
        return caller_of(request._request), None  # noqa: SLF001 (DRF offers the plain request under this name only)

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme that a 401 asks for."""
        del request
        return KEY_CHALLENGE


def caller_of(request: HttpRequest) -> Caller:
    """Find out whose key a call carries.

    Malformed, unknown, revoked and expired keys and wrong secrets cost the same and get the same answer: always one
    query and one comparison in constant time.

    :raises ApiError: api_key_missing, api_key_invalid.
    """
    key = request.META.get("HTTP_X_API_KEY")
    if not key:
        raise ApiError("api_key_missing", headers={"WWW-Authenticate": KEY_CHALLENGE})
    prefix = key_prefix(key) or NOBODY
    row = reading(lambda: _find(prefix))
    digest, partner_id, partner, kind, calls = row or (NO_DIGEST, 0, "", "", None)
    if not hmac.compare_digest(key_digest(key), bytes(digest)) or row is None:
        raise ApiError("api_key_invalid", headers={"WWW-Authenticate": KEY_CHALLENGE})
    return Caller(partner_id=partner_id, partner=partner, prefix=prefix, kind=kind, calls_per_minute=calls)


def _find(prefix: str) -> tuple[Any, ...] | None:
    sql, parameters = _statement()
    return execute(sql, [prefix if value == _PREFIX else value for value in parameters]).fetchone()


_PREFIX = "the prefix goes here"


@functools.cache
def _statement() -> tuple[str, tuple[Any, ...]]:
    """Compile the look-up once: it stands before every call, and building it costs more than running it."""
    found = ApiKey.objects.valid().filter(prefix=_PREFIX)
    sql, parameters = found.values_list("digest", "partner_id", "partner__name", "kind", "calls_per_minute").query.sql_with_params()
    return sql, parameters
