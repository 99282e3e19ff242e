"""A call done once, however often it is sent: its key, what that is bound to, and the answer stored with the effect."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from baskets.domain import idempotency, runner

KEY = re.compile(r"[\x21-\x7e]{1,255}")
RULE = "Must be 1 to 255 visible ASCII characters."
REPLAYED = "Idempotency-Replayed"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The body of a call that was done, now or earlier."""

    status: int
    body: str
    replayed: bool = False


def key_of(request: HttpRequest) -> str | None:
    """Read the Idempotency-Key of a call; whether it is well-formed is asked with `is_key`."""
    key: str | None = request.META.get("HTTP_IDEMPOTENCY_KEY")
    return key


def is_key(value: str) -> bool:
    """Tell whether a value can be an Idempotency-Key."""
    return KEY.fullmatch(value) is not None


def fingerprint_of(request: HttpRequest, *, content: Any, test_mode: bool) -> bytes:
    """Digest what a key is bound to: method, path, test mode and the JSON value of the body. `/v2` is the same path.

    White space, the order of members and the spelling of strings and numbers make no difference; unknown fields do.

    :param content: as `parse_json` returns it, with one form for each number.
    """
    path = request.path_info.removeprefix("/v2")
    bound = json.dumps([request.method, path, test_mode, content], sort_keys=True, default=repr)
    return hashlib.sha256(bound.encode()).digest()


def perform(operation: Callable[[], str], *, basket_id: UUID, key: str | None, fingerprint: Callable[[], bytes]) -> Answer:
    """Do a call in one transaction, together with the record of its answer; or give the answer it had.

    A refusal raises, and so takes the claim on the key back with everything else.

    :param operation: does the work and returns the body.
    """
    digest = fingerprint() if key is not None else b""

    def once() -> Answer:
        if key is None:
            return Answer(status=200, body=operation())
        stored = idempotency.claim(basket_id=basket_id, key=key, fingerprint=digest)
        if stored is not None:
            return Answer(status=stored.status, body=stored.body, replayed=True)
        body = operation()
        idempotency.remember(basket_id=basket_id, key=key, status=200, body=body)
        return Answer(status=200, body=body)

    return runner.run(once)
