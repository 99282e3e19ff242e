"""Whether the service is well: the sweep, the feed, the webhooks, and the check of the rules."""

from datetime import datetime, timedelta

from django.db.models import Count
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from baskets.admin.core import display
from baskets.admin.home.moment import Moment
from baskets.models import DeskEntry, WebhookEndpoint
from baskets.models.webhooks import is_failing

# A sweep should run every few minutes; a feed or a count that lags behind for longer has no reader.
PATIENCE = timedelta(minutes=10)


def list_health(request: HttpRequest, moment: Moment) -> list[tuple[str, SafeString, object]]:
    """List the parts of the service that the user may see.

    :returns: the name of each, its state, and what explains the state.
    """
    may = request.user.has_perm
    ended, waits = gettext("The oldest lapsed checkout ended {}."), gettext("The oldest event without a position is of {}.")
    health: list[tuple[str, SafeString, object]] = []
    if may("baskets.view_checkoutsession"):
        health.append(
            (
                gettext("Sweep"),
                *_state(moment.at, moment.oldest_lapsed, late=gettext("late"), why=ended),
            )
        )
    if may("baskets.view_event"):
        health.append(
            (
                gettext("Feed"),
                *_state(moment.at, moment.unplaced, late=gettext("behind"), why=waits),
            )
        )
    if may("baskets.view_webhookendpoint"):
        webhooks = WebhookEndpoint.objects.present().order_by().values_list("state")
        counted = webhooks.annotate(number=Count("pk"), failing=Count("pk", filter=is_failing()))
        states = {state: number for state, number, _ in counted}
        failing = sum(number for _, _, number in counted)
        labels = dict(WebhookEndpoint.State.choices)
        text = ", ".join(f"{display.count(states[state])} {label}" for state, label in labels.items() if state in states)
        tone = "bad" if failing else "good" if states else "plain"
        state = gettext("%(number)s failing") % {"number": failing} if failing else gettext("no one fails") if states else gettext("none")
        health.append((gettext("Webhooks"), display.badge(state, tone), text))
    if may("baskets.view_brokenrule"):
        check = DeskEntry.objects.filter(kind=DeskEntry.Kind.CHECKED).order_by("-pk").first()
        broken = len(check.data["broken"]) if check else 0
        tone = "bad" if broken else "good" if check else "plain"
        state = display.badge(
            gettext("%(number)s broken") % {"number": broken} if broken else gettext("all rules hold") if check else gettext("never run"),
            tone,
        )
        health.append(
            (gettext("Check of the rules"), state, display.moment(check.at) if check else gettext("check_baskets has not run yet."))
        )
    return health


def _state(at: datetime, oldest: datetime | None, *, late: str, why: str) -> tuple[SafeString, str]:
    """Judge something that others keep up to date, by the oldest row that waits for it."""
    if oldest is None:
        return display.badge(gettext("up to date"), "good"), gettext("Nothing waits.")
    is_late = at - oldest > PATIENCE
    return display.badge(late if is_late else gettext("up to date"), "bad" if is_late else "good"), why.format(
        display.distance(oldest - at)
    )
