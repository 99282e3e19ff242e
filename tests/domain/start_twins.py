"""The two forms of a start: `start_session`, and a direct start."""

from typing import Any

from baskets.db.pipeline import pipeline
from baskets.domain.actors import Actor
from baskets.domain.checkout import sessions
from baskets.domain.checkout.direct_starts import may_start_directly, start_directly
from baskets.domain.checkout.session_rows import StartedSession
from baskets.models.basket_snapshot import Owner
from tests.domain.twins import Twins, shown_without_times

ORDER_NO = "TEST-0000-0000-0000"
GIVEN: dict[str, Any] = {"order_no": ORDER_NO, "language": "de", "country": "CH", "stripe_using_sdk": True}


def start_alone(*, owner: Owner, actor: Actor) -> StartedSession | None:
    """Start directly, with no other start where that does not apply."""
    if not may_start_directly(test_mode=False, by_client_key=False):
        return None
    with pipeline():
        pending = start_directly(owner=owner, actor=actor, **GIVEN)
    return pending.result()


def start_twins(*, owner: Owner, actor: Actor) -> Twins[StartedSession]:
    """Return both forms of a start."""
    return Twins(
        rule=lambda: sessions.start_session(owner=owner, actor=actor, **GIVEN),
        direct=lambda: start_alone(owner=owner, actor=actor),
        shown=_shown,
    )


def _shown(started: StartedSession) -> Any:
    """The session and the basket without the time of the call."""
    session = started.session._asdict()
    hold = session.pop("expires_at") - session.pop("started_at")
    assert started.snapshot.session
    assert hold == started.snapshot.session.expires_at - started.snapshot.session.started_at
    return session | {"hold": hold}, shown_without_times(started.snapshot)
