"""The one format of times in responses, events and webhooks. Pages for staff have another: `admin.core.display`."""

from datetime import UTC, datetime
from typing import overload


@overload
def format_timestamp(moment: datetime) -> str: ...


@overload
def format_timestamp(moment: None) -> None: ...


def format_timestamp(moment: datetime | None) -> str | None:
    """Return a time in UTC, cut to the second, such as `2026-01-31T12:00:00Z`; None for None."""
    return None if moment is None else f"{moment.astimezone(UTC).isoformat()[:19]}Z"
