"""The one format of times in requests, responses, events and webhooks. Pages for staff have another: `admin.core.display`."""

from datetime import UTC, datetime
from typing import overload

TIMESTAMP_RULE = "Must be a time in ISO 8601 with its offset, such as 2026-01-31T12:00:00Z."


@overload
def format_timestamp(moment: datetime) -> str: ...


@overload
def format_timestamp(moment: None) -> None: ...


def format_timestamp(moment: datetime | None) -> str | None:
    """Return a time in UTC, cut to the second, such as `2026-01-31T12:00:00Z`; None for None."""
    return None if moment is None else f"{moment.astimezone(UTC).isoformat()[:19]}Z"


def parse_timestamp(text: str) -> datetime | None:
    """Parse a time with its offset from UTC, and convert it to UTC.

    :returns: None for any other text. A time without an offset is refused as well: it could mean several moments.
    """
    try:
        at = datetime.fromisoformat(text)
        in_utc = at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return in_utc if at.tzinfo else None
