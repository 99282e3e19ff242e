"""Reads the Idempotency-Key header, and computes the fingerprint of the request to which a key is bound."""

import hashlib
import json
import re
from typing import Any

from django.http import HttpRequest

KEY = re.compile(r"[\x21-\x7e]{1,255}")
RULE = "Must be 1 to 255 visible ASCII characters."
REPLAYED = "Idempotency-Replayed"


def key_of(request: HttpRequest) -> str | None:
    """Return the Idempotency-Key of a request as it was sent; `is_key` checks its form."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    return key


def is_key(value: str) -> bool:
    """Check whether a value can be an Idempotency-Key."""
    return KEY.fullmatch(value) is not None


def fingerprint_of(request: HttpRequest, *, content: Any, test_mode: bool) -> bytes:
    """Return the SHA-256 of what a key is bound to: method, path, test mode and the JSON value of the body. `/v2` is the same path.

    White space, the order of members and the spelling of strings and numbers make no difference; unknown fields do.

    :param content: as `parse_json` returns it, with one form for each number.
    """
    path = request.path_info.removeprefix("/v2")
    bound = json.dumps([request.method, path, test_mode, content], sort_keys=True, default=repr)
    return hashlib.sha256(bound.encode()).digest()
