"""Decides whether a caller accepts JSON, and whether compressed: the most specific range of `Accept` counts (RFC 9110, section 12.5.1).

Django parses the ranges. Its `HttpRequest.accepts` is not used: it refuses `application/json; charset=utf-8`, which clients send.
"""

from operator import attrgetter

from django.http.request import MediaType

# Far beyond what any program sends; it bounds the work for a hostile header.
MAX_HEADER_LENGTH = 2048
JSON_RANGES = {"*/*", "application/*", "application/json"}


def accepts_json(accept: str | None) -> bool:
    """Return whether `application/json` may be sent to a caller.

    :param accept: the header; a caller that sends none, or an empty one, accepts everything.
    """
    if not accept or accept in {"*/*", "application/json"}:
        return True
    if len(accept) > MAX_HEADER_LENGTH:
        return False
    try:
        ranges = [MediaType(item) for item in accept.split(",")]
        best = max((item for item in ranges if f"{item.main_type}/{item.sub_type}" in JSON_RANGES), key=attrgetter("specificity"))
        return float(best.params.get("q", 1)) > 0
    except ValueError:  # No range includes JSON, or the header is malformed.
        return False


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Return whether a response may be compressed with gzip.

    :param accept_encoding: the header; a caller that sends none gets plain responses.
    """
    for item in (accept_encoding or "")[:MAX_HEADER_LENGTH].split(","):
        coding, _, weight = item.replace(" ", "").lower().partition(";q=")
        if coding == "gzip":
            return weight.strip("0.") != "" if weight else True
    return False
