"""The repair desk: each repair is a page that shows before and after, asks for a reason, and does it by one POST.

What a repair does is the domain's business; what it would do is found out by rehearsing it there.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import ObjectDoesNotExist, PermissionDenied
from django.db import DatabaseError, InterfaceError
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.csrf import csrf_protect

from baskets.admin.core import display
from baskets.admin.core.actors import staff_actor
from baskets.admin.core.readonly import ReadOnlyAdmin
from baskets.admin.repairs import bulk, snapshots
from baskets.admin.repairs.forms import RepairForm
from baskets.admin.repairs.snapshots import Snapshot
from baskets.db import errors
from baskets.domain import runner
from baskets.domain.errors import OutOfStock, Refusal
from baskets.domain.retries import OwnSessionLapsed, StockReclaimable
from baskets.domain.support import guards
from baskets.models import Attention, Basket, BrokenRule, DeskEntry, Event, GuestToken, Product, StockReservation, WebhookEndpoint

METHODS = ("GET", "HEAD", "POST")
LAPSED = "Lapsed checkouts stand in the way, or hold the stock it needs. They are expired first, and then it is tried."
BUSY = "The database is busy, or somebody else is at it just now. Nothing was done; try again."
Do = Callable[..., object]


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One named repair of one kind of record.

    :param slug: its address; its permission is called alike.
    :param fits: whether it can be offered for a record in its state.
    :param do: called with the record, what was said, and what every repair takes. Where it returns something, that is the
        record from then on.
    :param look: what it may touch, where that is not what the others of its kind do.
    :param state: the state it is decided upon, likewise.
    :param bulk: whether it is offered for many rows of a list.
    :param promises: names in `look` whose values after the repair must be those that were shown before it: what it does depends on
        stock, which no event of the basket tells of.
    """

    slug: str
    title: str
    sentence: str
    fits: Callable[[Any], bool]
    do: Do
    form: type[RepairForm] = RepairForm
    look: Callable[[Any], Snapshot] | None = None
    state: Callable[[Any], int] | None = None
    bulk: bool = False
    promises: Sequence[str] = ()

    @property
    def permission(self) -> str:
        """What somebody must be allowed."""
        return f"baskets.repair_{self.slug.replace('-', '_')}"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What repairs of one kind of record have in common.

    :param state: the state they are decided upon.
    :param look: what they may touch.
    :param back: the page to go to afterwards.
    """

    repairs: Sequence[Repair]
    state: Callable[[Any], int]
    look: Callable[[Any], Snapshot]
    back: Callable[[Any], str]

    def state_of(self, chosen: Repair, record: Any) -> int:
        """The state that a repair of a record is decided upon."""
        return (chosen.state or self.state)(record)

    def look_of(self, chosen: Repair, record: Any) -> Snapshot:
        """What a repair of a record may touch, as it is now."""
        return (chosen.look or self.look)(record)


def links(kind: Kind, request: HttpRequest, record: Any, *, only: set[str] | None = None) -> list[tuple[str, str]]:
    """The repairs that fit a record and that whoever looks may do: address and label.

    :param only: the slugs to choose from, where not all of them belong in the place.
    """
    name = f"admin:baskets_{record._meta.model_name}_repair"  # noqa: SLF001 (Django's own name for it)
    return [
        (reverse(name, args=[quote(record.pk), each.slug]), each.title)
        for each in kind.repairs
        if (only is None or each.slug in only) and request.user.has_perm(each.permission) and each.fits(record)
    ]


def operation(chosen: Repair, request: HttpRequest, record: Any, said: dict[str, Any], *, seen: int, reason: str) -> Callable[[], object]:
    """The domain call of a repair, for the runner of transactions."""
    return partial(chosen.do, record, said, seen=seen, reason=reason, actor=staff_actor(request))


class RepairAdmin(ReadOnlyAdmin[Any]):
    """Adds the repairs of a kind of record to its pages."""

    kind: Kind

    def more_urls(self) -> list[URLPattern]:
        """One address for each repair of one record, and for those of many."""
        view = self.admin_site.admin_view(self.repair)
        name = f"baskets_{self.opts.model_name}"
        many = self.admin_site.admin_view(self.repair_many)
        return [
            path("<path:object_id>/repair/<slug:slug>/", view, name=f"{name}_repair"),
            path("repair/<slug:slug>/", many, name=f"{name}_repair_many"),
        ]

    def tools(self, request: HttpRequest, record: Any) -> list[tuple[str, str]]:
        """The repairs that fit."""
        return links(self.kind, request, record)

    @method_decorator(csrf_protect)
    def repair(self, request: HttpRequest, object_id: str, slug: str) -> HttpResponse:
        """Show what a repair would change, and do it once that is confirmed."""
        chosen = next((each for each in self.kind.repairs if each.slug == slug), None)
        if chosen is None:
            raise Http404
        if not request.user.has_perm(chosen.permission):
            raise PermissionDenied
        record = self.found(request, object_id)
        if request.method not in METHODS:
            return HttpResponseNotAllowed(METHODS)
        return Page(desk=self, chosen=chosen, request=request, record=record).answer()

    # --- Many rows at once ---

    def bulk_repairs(self, request: HttpRequest) -> list[Repair]:
        """The repairs that whoever looks may do to many rows."""
        return [each for each in self.kind.repairs if each.bulk and request.user.has_perm(each.permission)]

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Offer them in the list, where Django offers actions. All that choosing one does is to open its page."""
        return {each.slug: (_opened, each.slug, each.title) for each in self.bulk_repairs(request)}

    def may_post_to_list(self, request: HttpRequest) -> bool:
        """Choosing an action is a form that posts."""
        return bool(self.bulk_repairs(request))

    @method_decorator(csrf_protect)
    def repair_many(self, request: HttpRequest, slug: str) -> HttpResponse:
        """Show what a repair of many rows would change, and do it once that is confirmed."""
        chosen = next((each for each in self.kind.repairs if each.slug == slug and each.bulk), None)
        if chosen is None:
            raise Http404
        if not (self.has_view_permission(request) and request.user.has_perm(chosen.permission)):
            raise PermissionDenied
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        return bulk.Page(desk=self, chosen=chosen, request=request).answer()


def _opened(desk: RepairAdmin, request: HttpRequest, rows: QuerySet[Any]) -> HttpResponse:
    chosen = next(each for each in desk.bulk_repairs(request) if each.slug == request.POST.get("action"))
    return bulk.Page(desk=desk, chosen=chosen, request=request).opened(rows)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One request for a repair."""

    desk: RepairAdmin
    chosen: Repair
    request: HttpRequest
    record: Any

    def answer(self) -> HttpResponse:
        """Ask, show, or do."""
        if self.request.method != "POST":
            form = self.fresh_form()
            return self.show(form, rehearsed=not form.asks)
        form = self.chosen.form(self.request.POST, record=self.record)
        if not form.is_valid():
            return self.show(form, rehearsed=not form.asks)
        if form.asks and self.request.POST.get("confirm") != form.shown:
            return self.show(form, rehearsed=True)
        return self.do(form)

    def do(self, form: RepairForm) -> HttpResponse:
        """Do it, or say why not; then what is there now is shown, to decide again."""
        reason, seen = form.cleaned_data["reason"], form.cleaned_data["seen"]
        call = operation(self.chosen, self.request, self.record, form.said, seen=seen, reason=reason)
        try:
            changed = runner.run(lambda: self.kept(call()))
        except Refusal as refusal:
            return self.refused(form, refusal)
        except (DatabaseError, InterfaceError) as error:
            if errors.fault_of(error) is errors.Fault.INTERNAL:
                raise
            return self.show(form, rehearsed=False, problem=BUSY, status=503)
        messages.success(self.request, f"Done: {self.chosen.title.lower()}.")
        return HttpResponseRedirect(self.desk.kind.back(changed or self.record))

    def kept(self, changed: object) -> object:
        """Return what a repair returned, if it has done what its preview showed.

        :raises StaleState: it has not; its transaction is rolled back.
        """
        shown = self.request.POST.get("outcome")  # None was shown where lapsed checkouts are expired first.
        if self.chosen.promises and shown and self.outcome(self.look()) != shown:
            raise guards.StaleState(since=[])
        return changed

    def outcome(self, after: Snapshot) -> str:
        """Name what a repair must come to, short enough for a form."""
        return hashlib.sha256("\n".join(str(after.get(name)) for name in self.chosen.promises).encode()).hexdigest()

    def refused(self, form: RepairForm, refusal: Refusal) -> HttpResponse:
        """Say why it was not done, upon the state there is now; there is none where the record is gone meanwhile."""
        try:
            return self.show(self.renewed(form), rehearsed=True, problem=refusal, status=409)
        except ObjectDoesNotExist:
            return self.show(form, rehearsed=False, problem=refusal, status=409)

    def fresh_form(self) -> RepairForm:
        """A form for the state there is now."""
        return self.chosen.form(initial={"seen": self.desk.kind.state_of(self.chosen, self.record)}, record=self.record)

    def renewed(self, form: RepairForm) -> RepairForm:
        """The same form, upon the state there is now."""
        data = self.request.POST.copy()
        data["seen"] = str(self.desk.kind.state_of(self.chosen, self.record))
        renewed = type(form)(data, record=self.record)
        renewed.is_valid()
        return renewed

    def show(self, form: RepairForm, *, rehearsed: bool, problem: Refusal | str | None = None, status: int = 200) -> HttpResponse:
        """Show the page: the form, and what would change."""
        form = self.renewed(form) if form.is_bound and rehearsed else form
        changes, obstacle, outcome = self.rehearse(form) if rehearsed else ([], None, "")
        possible = not isinstance(obstacle, Refusal)
        confirmed = possible and form.asks and rehearsed and form.is_bound and form.is_valid()
        context = {
            "title": self.chosen.title,
            "name": display.visible(name_of(self.record)),
            "record": self.record,
            "sentence": self.chosen.sentence,
            "form": form,
            "changes": changes,
            "problem": told(problem),
            "since": _since(problem),
            "obstacle": told(obstacle),
            "confirm": form.shown if confirmed else None,
            "outcome": outcome,
            "rehearsed": obstacle is None,
            "possible": possible,
            "submit": self.chosen.title if confirmed or not form.asks else "Show what will change",
            "back": self.desk.kind.back(self.record),
        }
        return self.desk.render(self.request, "admin/baskets/repair.html", context, status=status)

    def look(self) -> Snapshot:
        """Read what the repair may touch, as it is now."""
        return self.desk.kind.look_of(self.chosen, self.record)

    def rehearse(self, form: RepairForm) -> tuple[list[tuple[str, object, object, bool]], Refusal | str | None, str]:
        """Find out what would change, or what stands in the way, and what it would come to."""
        valid = form.is_bound and form.is_valid()
        if form.asks and not valid:
            return [], None, ""
        call = operation(
            self.chosen,
            self.request,
            self.record,
            form.said if valid else {},
            seen=self.desk.kind.state_of(self.chosen, self.record),
            reason=form.cleaned_data["reason"] if valid else "rehearsal",
        )
        try:
            before, after = guards.dry_run(operation=call, snapshot=self.look)
        except Refusal as refusal:
            return snapshots.differences(self.look(), None), refusal, ""
        except (StockReclaimable, OwnSessionLapsed):
            return snapshots.differences(self.look(), None), LAPSED, ""
        return snapshots.differences(before, after), None, self.outcome(after)


def name_of(record: Any) -> str:
    """The word that staff know a record by."""
    if isinstance(record, WebhookEndpoint):
        return str(record)
    if isinstance(record, Basket):
        return record.user_id
    if isinstance(record, Product | BrokenRule | GuestToken):
        return str(record.pk)
    return str(record.session.order_no if isinstance(record, Attention | StockReservation) else record.order_no)


def told(problem: Refusal | str | None) -> str:
    """Why something was not done, in a sentence."""
    if isinstance(problem, OutOfStock):
        missing = ", ".join(f"{each.product_id}: {each.wanted} wanted, {each.available} there" for each in problem.shortages)
        return f"{problem} {missing}"
    return str(problem or "")


def _since(problem: object) -> list[object]:
    """What has happened since the page was made, in lines."""
    if not isinstance(problem, guards.StaleState):
        return []
    return [
        format_html(
            "{} {} by {}",
            display.moment(each.at if isinstance(each, Event | DeskEntry) else each.created_at),
            each.get_kind_display(),
            display.visible(each.actor),
        )
        for each in problem.since
    ]
