"""Reads and parses request bodies: strict JSON in UTF-8, bounded in size and depth. Knows no fields."""

import io
import json
import math
import re
from collections.abc import Mapping
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import IO, Any, NoReturn

from django.http import HttpRequest
from rest_framework.parsers import BaseParser

from baskets import conf
from baskets.api.exceptions import ApiError, invalid

MEDIA_TYPE = "application/json"
MAX_DEPTH = 32
# A number with more digits is beyond every limit. To convert it to an int would take long.
MAX_DIGITS = 100
UTF_8_NAMES = frozenset({"utf-8", "utf8"})
# Matches strings (closed or not) and brackets. The quantifier is possessive, so the time grows linearly with the length.
STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
# Exact at any length: a number that does not fit raises an error, and is never rounded.
EXACT_DECIMALS = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[InvalidOperation, Overflow, Inexact])


class StrictJSONParser(BaseParser):
    """The parser of DRF, for the schema and for views that use `request.data`. The viewsets call `read_body` themselves."""

    media_type = MEDIA_TYPE

    def parse(self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None) -> Any:
        """Parse the stream that DRF hands over."""
        del media_type, parser_context
        return parse_json(_read_limited(stream))


def read_body(request: HttpRequest) -> bytes:
    """Read the body of a request.

    :returns: the bytes; empty if the request has no body.
    :raises ApiError: `unsupported_media_type`, `body_too_large`, or `bad_request` if the framing is broken.
    """
    meta = request.META
    if meta.get("HTTP_CONTENT_ENCODING"):
        raise ApiError("unsupported_media_type")
    declared = meta.get("CONTENT_LENGTH")
    if declared:
        if not (declared.isascii() and declared.isdigit()):
            raise ApiError("bad_request")
        length = int(declared[:20])
        if length == 0:
            return b""
        _check_media_type(request)
        if length > conf.body_limit_bytes():
            raise ApiError("body_too_large")
        body = request.read(length)
        if len(body) != length:
            raise ApiError("bad_request")
        return body
    if (coding := meta.get("HTTP_TRANSFER_ENCODING")) is not None:
        return _read_chunked(request, coding)
    return b""


def _read_chunked(request: HttpRequest, coding: str) -> bytes:
    """Read a body of unknown length. The process server must mark the end of the input.

    An empty body is refused: a body that was cut off before its first piece looks the same. A body that was cut off later
    fails as JSON, because a proper prefix of a JSON object is never a JSON object.
    """
    if not request.META.get("wsgi.input_terminated") or coding.strip().lower() != "chunked":
        raise ApiError("bad_request")
    stream = request.META["wsgi.input"]
    first = stream.read(1)
    if not first:
        raise ApiError("bad_request")
    _check_media_type(request)
    return _read_limited(stream, first)


def _read_limited(stream: IO[bytes], start: bytes = b"") -> bytes:
    """Read to the end, and stop as soon as the limit is exceeded.

    :raises ApiError: `body_too_large`.
    """
    limit = conf.body_limit_bytes()
    buffer = io.BytesIO()
    size = buffer.write(start)
    while size <= limit and (piece := stream.read(limit + 1 - size)):
        size += buffer.write(piece)
    if size > limit:
        raise ApiError("body_too_large")
    return buffer.getvalue()


def _check_media_type(request: HttpRequest) -> None:
    charset = (request.content_params or {}).get("charset")
    if request.content_type != MEDIA_TYPE or (charset is not None and charset.lower() not in UTF_8_NAMES):
        raise ApiError("unsupported_media_type")


def parse_json(raw: bytes) -> Any:
    """Parse JSON, and refuse everything that two parsers could read differently: duplicate keys, NaN, deep nesting.

    A whole number becomes an `int` in any spelling (`2`, `2.0`, `2e0`). Any other number becomes a `Decimal` or a NaN,
    which no field accepts. Strings may contain NUL and unpaired surrogates: fields refuse them, unknown fields are ignored.

    :raises ApiError: `validation_failed` for `body`.
    """
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        _reject(f"Must not be nested deeper than {MAX_DEPTH} levels.")
    try:
        return _DECODER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError:
        _reject("Must be UTF-8.")
    except (ValueError, RecursionError):
        _reject("Must be JSON.")


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for token in STRING_OR_BRACKET.finditer(raw):
        match raw[token.start()]:
            case 0x5B | 0x7B:
                depth += 1
                deepest = max(deepest, depth)
            case 0x5D | 0x7D:
                depth -= 1
    return deepest


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        _reject("Must not name a key twice.")
    return members


def _parse_integer(digits: str) -> int | Decimal | float:
    """Parse a number without fraction and exponent."""
    return int(digits) if len(digits) <= MAX_DIGITS else _parse_number(digits)


def _parse_number(digits: str) -> int | Decimal | float:
    """Parse any number.

    :returns: an `int` if the value is whole and has at most `MAX_DIGITS` digits; else the normalized `Decimal`; NaN if the
        exponent exceeds what `Decimal` can hold.
    """
    try:
        number = EXACT_DECIMALS.normalize(EXACT_DECIMALS.create_decimal(digits))
    except ArithmeticError:
        return math.nan
    if number.adjusted() < MAX_DIGITS and number == number.to_integral_value():
        return int(number)
    return number


def _reject_constant(name: str) -> NoReturn:
    _reject(f"Must not contain {name}.")


def _reject(rule: str) -> NoReturn:
    raise invalid({"body": rule})


_DECODER = json.JSONDecoder(
    object_pairs_hook=_build_object, parse_int=_parse_integer, parse_float=_parse_number, parse_constant=_reject_constant
)
