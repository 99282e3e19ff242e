"""The lists by their paths, and how their pages are read."""

from typing import Any

from tests.api.conftest import Api

BASKETS, SESSIONS, EVENTS = LISTS = ("/baskets", "/baskets/checkout/sessions", "/baskets/events")


def users(answer: Any) -> list[str]:
    return [row["userId"] for row in answer.data]


def pages(api: Api, path: str, *, limit: int) -> list[Any]:
    """Read a list to its end."""
    found: list[Any] = []
    token = ""
    while True:
        answer = api.get(f"{path}{'&' if '?' in path else '?'}limit={limit}" + (f"&nextToken={token}" if token else ""))
        found += answer.data
        token = answer.body.get("nextToken", "")
        if not answer.data or not token:
            return found
