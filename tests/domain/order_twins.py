"""The two forms of an order of the active session: `finish_session`, and a direct order."""

from baskets.db.pipeline import pipeline
from baskets.domain.actors import Actor
from baskets.domain.checkout import sessions
from baskets.domain.checkout.direct_orders import order_directly
from baskets.models.basket_snapshot import Owner, ShownBasket
from tests.domain.twins import Twins, shown_without_times


def order_alone(*, owner: Owner, order_no: str | None, actor: Actor) -> ShownBasket | None:
    """Order directly, with no finish where that does not apply."""
    with pipeline():
        pending = order_directly(owner=owner, order_no=order_no, actor=actor)
    return pending.result()


def order_twins(*, owner: Owner, order_no: str | None, actor: Actor) -> Twins[ShownBasket]:
    """Return both forms of an order."""
    return Twins(
        rule=lambda: sessions.finish_session(owner=owner, ordered=True, order_no=order_no, actor=actor),
        direct=lambda: order_alone(owner=owner, order_no=order_no, actor=actor),
        shown=shown_without_times,
    )
