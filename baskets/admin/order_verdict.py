"""The verdict on one checkout or order, whichever of its basket it is. Pure, as the verdict on a basket."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from django.utils.translation import gettext

from baskets.admin.core.late_stock import pieces
from baskets.admin.verdict import BasketFacts, FlagFacts, SessionFacts, State, Status, Verdict, ago, in_sandbox, unpaid, verdict


def order_verdict(
    session: SessionFacts, *, at: datetime, extension: timedelta, flags: Sequence[FlagFacts] = (), is_sandbox: bool = False
) -> Verdict:
    """Judge a checkout: by its open flags, else by its state.

    :param extension: as in `BasketFacts`.
    :param flags: its open flags, the latest first.
    :param is_sandbox: whether its partner is a sandbox.
    """
    found = _order_verdict(session, at=at, extension=extension, flags=flags)
    return in_sandbox(found) if is_sandbox else found


def _order_verdict(session: SessionFacts, *, at: datetime, extension: timedelta, flags: Sequence[FlagFacts]) -> Verdict:
    is_sold = session.status == Status.ORDERED and not session.test_mode and not session.reversed_at
    if flags or session.status == Status.ACTIVE or is_sold:
        # The page names the order already.
        return verdict(BasketFacts(at=at, state=State.OPEN, extension=extension, latest=replace(session, order_no=""), flags=flags))
    values = {"ago": ago(at - (session.reversed_at or session.finished_at or session.expires_at)), "price": session.total}
    if session.status == Status.EXPIRED:
        return unpaid(session, gettext("This checkout expired %(ago)s without an order, and its items went back to the cart.") % values)
    if session.status == Status.ABORTED:
        return unpaid(session, gettext("This checkout was aborted %(ago)s without an order, and its items went back to the cart.") % values)
    if session.test_mode:
        text = gettext("This checkout was a test and was ordered %(ago)s. It sold nothing.")
    elif session.total:
        text = gettext("This order, %(pieces)s for %(price)s, was reversed %(ago)s.")
    else:
        text = gettext("This order, %(pieces)s, was reversed %(ago)s.")
    return Verdict(tone="plain", text=text % (values | {"pieces": pieces(sum(line.count for line in session.lines if line.is_bought))}))
