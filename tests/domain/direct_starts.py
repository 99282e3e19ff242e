"""Compares the two ways to start a checkout: what a direct start leaves, and what `start_session` leaves."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction

from baskets.db.pipeline import pipeline
from baskets.domain.actors import Actor
from baskets.domain.checkout import sessions
from baskets.domain.checkout.direct_starts import start_directly
from baskets.domain.checkout.session_rows import StartedSession
from baskets.models import Partner
from baskets.models.basket_snapshot import Owner
from tests.domain.twins import Rows, read_rows, shown_without_times, try_to_leave

ORDER_NO = "TEST-0000-0000-0000"
# All rows, the session, and the basket.
Left = tuple[Rows, dict[str, Any], dict[str, Any]]
GIVEN: dict[str, Any] = {"order_no": ORDER_NO, "language": "de", "country": "CH", "stripe_using_sdk": True}


def start_alone(*, owner: Owner, actor: Actor) -> StartedSession | None:
    """Start directly, with no other start where that does not apply."""
    with pipeline():
        pending = start_directly(owner=owner, actor=actor, **GIVEN)
    return pending.result()


def starts_alike(*, owner: Owner, actor: Actor, read: Callable[[], Rows] = read_rows) -> bool:
    """Start in both ways, each rolled back. They must leave the same rows and show the same session and basket.

    :returns: whether the direct start applies. It must not where a start refuses; where it does not, it must write nothing.
    """
    before = read()
    started = _try(owner, read, lambda: sessions.start_session(owner=owner, actor=actor, **GIVEN))
    direct = _try(owner, read, lambda: start_alone(owner=owner, actor=actor))
    assert read() == before
    if direct is None:
        with transaction.atomic():
            assert start_alone(owner=owner, actor=actor) is None
        assert read() == before
        return False
    assert direct == started
    assert direct[0] != before
    return True


def _try(owner: Owner, read: Callable[[], Rows], start: Callable[[], StartedSession | None]) -> Left | None:
    """Start, and roll it back.

    :returns: all rows after it, the session and the basket without the time of the call; None if there was no start.
    """
    seconds = Partner.objects.get(pk=owner.partner_id).hold_seconds
    left = try_to_leave(start, read=read, hold=timedelta(seconds=seconds) if seconds else None)
    if left is None:
        return None
    started, rows = left
    session = started.session._asdict()
    hold = session.pop("expires_at") - session.pop("started_at")
    assert started.snapshot.session
    assert hold == started.snapshot.session.expires_at - started.snapshot.session.started_at
    return rows, session | {"hold": hold}, shown_without_times(started.snapshot)
