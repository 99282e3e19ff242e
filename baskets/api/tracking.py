"""Reads the attribution that an app reports: where its user came from. It is never trusted or required, and never fails a call."""

import base64
import binascii
from typing import Any

import structlog
from django.http import HttpRequest

from baskets.api.exceptions import ApiError
from baskets.api.parsers import parse_json
from baskets.api.protocol.identifiers import is_identifier
from baskets.api.protocol.metrics import TRACKING_DROPPED

log = structlog.get_logger("baskets.api")

MAX_HEADER_LENGTH = 4096
TRACKING_FIELDS = ("session_id", "start_time", "source", "provider_id", "provider")


class _UnusableTracking(Exception):
    """The value cannot be used. The text is the reason for the log and the metrics."""


def read_tracking(request: HttpRequest, *, provider_id: str | None) -> dict[str, str]:
    """Read the attribution of a call. An unusable value is dropped whole, logged and counted.

    :param provider_id: the parameter of the query, used if the header names no provider.
    :returns: those of `session_id`, `start_time`, `source` and `provider_id` that were sent.
    """
    tracking: dict[str, str] = {}
    if header := request.META.get("HTTP_X_JAY_TRACKING"):
        try:
            tracking = _decode_header(header)
        except _UnusableTracking as error:
            _record_dropped(source="header", reason=str(error))
    if provider := tracking.pop("provider", None):
        tracking.setdefault("provider_id", provider)
    if provider_id is not None and "provider_id" not in tracking:
        if is_identifier(provider_id):
            tracking["provider_id"] = provider_id
        else:
            _record_dropped(source="query", reason="field")
    return tracking


def _record_dropped(*, source: str, reason: str) -> None:
    TRACKING_DROPPED.labels(source, reason).inc()
    log.warning("tracking_dropped", source=source, reason=reason)


def _decode_header(header: str) -> dict[str, str]:
    if len(header) > MAX_HEADER_LENGTH:
        raise _UnusableTracking("too_long")
    plain = header.strip().rstrip("=").replace("-", "+").replace("_", "/")
    try:
        raw = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise _UnusableTracking("not_base64") from None
    try:
        value: Any = parse_json(raw)
    except ApiError:
        raise _UnusableTracking("not_json") from None
    if not isinstance(value, dict):
        raise _UnusableTracking("not_an_object")
    fields = {name: value[name] for name in TRACKING_FIELDS if value.get(name) is not None}
    if not all(is_identifier(text) for text in fields.values()):
        raise _UnusableTracking("field")
    return fields
