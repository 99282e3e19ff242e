"""What needs attention: each kind of open work, with its number, its age and its assignees."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Min
from django.http import HttpRequest
from django.urls import reverse
from django.utils.translation import gettext

from baskets.admin.core import display, filters
from baskets.admin.home.moment import MAX_COUNTED, Moment
from baskets.domain.support import assignments, key_misuse
from baskets.models import Attention, BrokenRule, Event, Product, WebhookEndpoint


@dataclass(frozen=True, kw_only=True)
class Work:
    """One kind of open work.

    :param mine: how many are assigned to the user, and `unassigned` how many to no account; None where there is no assignment.
    """

    label: str
    address: str
    number: int
    oldest: datetime | None = None
    mine: int | None = None
    unassigned: int | None = None

    @property
    def shown_number(self) -> str:
        """The number, with a plus where counting has stopped."""
        return f"{display.count(self.number)}{'+' if self.number >= MAX_COUNTED else ''}"


def list_work(request: HttpRequest, moment: Moment) -> list[Work]:
    """List the kinds of open work that the user may see, those without any work left out."""
    sources: tuple[tuple[str, Callable[[HttpRequest, Moment], Iterable[Work]]], ...] = (
        ("attention", _open_flags),
        ("checkoutsession", _lapsed_checkouts),
        ("product", _shortfalls),
        ("webhookendpoint", _failing_webhooks),
        ("brokenrule", _broken_rules),
        ("apikey", _unusual_keys),
    )
    work = (each for model, source in sources if request.user.has_perm(f"baskets.view_{model}") for each in source(request, moment))
    return [each for each in work if each.number]


def _open_flags(request: HttpRequest, _: Moment) -> Iterable[Work]:
    """Count the baskets with open flags, as the work list does: one row for each basket."""
    flags = Attention.objects.open().live().annotate(assigned_to=Event.objects.assignee()).order_by("created_at")
    rows = list(flags.values_list("basket_id", "reason", "created_at", "assigned_to")[:MAX_COUNTED])
    for label, is_short in ((gettext("The customer may have paid"), False), (gettext("Ordered without stock"), True)):
        assignees: dict[Any, set[str]] = {}
        oldest = None
        for basket_id, reason, created_at, assignee in rows:
            if (reason == Attention.Reason.SHORT) is is_short:
                oldest = oldest or created_at
                assignees.setdefault(basket_id, set()).add(assignee or "")
        yield Work(
            label=label,
            address=reverse("admin:baskets_worklist"),
            number=len(assignees),
            oldest=oldest,
            mine=sum(request.user.get_username() in names for names in assignees.values()),
            unassigned=sum(names == {""} for names in assignees.values()),
        )


def _lapsed_checkouts(_: HttpRequest, moment: Moment) -> Iterable[Work]:
    yield Work(
        label=gettext("Lapsed checkouts, not yet swept"),
        address=f"{reverse('admin:baskets_checkoutsession_changelist')}?{filters.LAPSED_WORK}",
        number=moment.lapsed,
        oldest=moment.oldest_lapsed,
    )


def _shortfalls(request: HttpRequest, _: Moment) -> Iterable[Work]:
    products = list(Product.objects.filter(stock__shortfall__gt=0).values_list("pk", flat=True)[:MAX_COUNTED])
    address = f"{reverse('admin:baskets_product_changelist')}?stock=shortfall"
    yield _assigned_work(request, products, about="product", label=gettext("Products with a shortfall"), address=address)


def _failing_webhooks(_: HttpRequest, __: Moment) -> Iterable[Work]:
    rows = WebhookEndpoint.objects.failing().aggregate(number=Count("pk"), oldest=Min("failing_since"))
    address = f"{reverse('admin:baskets_webhookendpoint_changelist')}?state=failing"
    yield Work(label=gettext("Webhooks that fail or were given up"), address=address, **rows)


def _broken_rules(request: HttpRequest, _: Moment) -> Iterable[Work]:
    rules = list(
        BrokenRule.objects.filter(settled_at__isnull=True, gone_at__isnull=True).order_by("found_at").values_list("pk", "found_at")
    )
    oldest = rules[0][1] if rules else None
    address = reverse("admin:baskets_brokenrule_changelist")
    yield _assigned_work(
        request, [pk for pk, _ in rules], about="brokenrule", label=gettext("Broken rules"), address=address, oldest=oldest
    )


def _unusual_keys(_: HttpRequest, __: Moment) -> Iterable[Work]:
    yield Work(
        label=gettext("Keys unlike all others"), address=reverse("admin:baskets_worklist"), number=len(key_misuse.find_unusual_keys())
    )


def _assigned_work(
    request: HttpRequest, subjects: Sequence[str], *, about: str, label: str, address: str, oldest: datetime | None = None
) -> Work:
    """Count records that belong to no basket, with their assignees from the audit log.

    :param subjects: the primary keys of the records, and `about` their kind.
    """
    assignees = assignments.assignees(about, subjects) if subjects else {}
    mine = sum(name == request.user.get_username() for name in assignees.values())
    return Work(label=label, address=address, number=len(subjects), oldest=oldest, mine=mine, unassigned=len(subjects) - len(assignees))
