"""Types of command-line arguments: each parses the text of one argument, or raises `ArgumentTypeError` with the reason."""

import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from datetime import UTC, datetime

from baskets.domain.access import api_keys

INTEGER_PATTERN = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)


def bounded_int(*, minimum: int, maximum: int) -> Callable[[str], int]:
    """Accept an integer from `minimum` to `maximum`, in ASCII digits."""

    def parse(text: str) -> int:
        if not INTEGER_PATTERN.fullmatch(text) or not minimum <= int(text) <= maximum:
            raise ArgumentTypeError(f"{text[:40]!r} is not a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def printable_text(*, max_length: int) -> Callable[[str], str]:
    """Accept text of 1 to `max_length` printable characters."""

    def parse(text: str) -> str:
        if not text.strip() or len(text) > max_length or not text.isprintable():
            raise ArgumentTypeError(f"{text[:40]!r} is not 1 to {max_length} printable characters")
        return text

    return parse


def aware_datetime(text: str) -> datetime:
    """Accept a time in ISO 8601 with its offset from UTC."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text[:40]!r} is not a time in ISO 8601, such as 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise ArgumentTypeError(f"{text[:40]!r} lacks its offset from UTC, such as the Z of 2026-01-31T12:00:00Z")
    try:
        return at.astimezone(UTC)
    except OverflowError:
        raise ArgumentTypeError(f"{text[:40]!r} is out of range") from None


def api_key_prefix(text: str) -> str:
    """Accept the prefix of a key, or a whole key. The error message never repeats the text, which may be a secret."""
    prefix = api_keys.parse_key_prefix(text) or text.removeprefix("bk_")
    if not re.fullmatch(r"[a-z0-9]{12}", prefix, re.ASCII):
        raise ArgumentTypeError("a key's prefix is 12 small letters and digits: the part between its two underscores")
    return prefix
