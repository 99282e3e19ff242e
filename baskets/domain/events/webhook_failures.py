"""A failed request to a webhook endpoint, and how long to wait after it."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

FIRST_DELAY = timedelta(seconds=5)
MAX_DELAY = timedelta(hours=1)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A failed request, with the requests of the receiver.

    :param by_event: whether the receiver may refuse this event alone; otherwise it cannot be reached at all.
    :param gone: the receiver wants no more events.
    :param pause: the minimum time until the next attempt.
    :param not_before: the earliest time of the next attempt.
    """

    problem: str
    by_event: bool = True
    gone: bool = False
    pause: timedelta | None = None
    not_before: datetime | None = None

    @property
    def values(self) -> dict[str, Any]:
        """The values by which a statement computes the time of the next attempt, and stores the problem."""
        return {
            "problem": self.problem[:200],
            "pause": self.pause,
            "not_before": self.not_before,
            "first": FIRST_DELAY,
            "longest": MAX_DELAY,
            "jitter": random.uniform(0.5, 1),  # noqa: S311 (no secret)
        }
