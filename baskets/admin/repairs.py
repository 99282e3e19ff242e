"""The repair desk: each repair is a page that shows before and after, asks for a reason, and does it by one POST.

What a repair does is the domain's business; what it would do is found out by rehearsing it there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.views.decorators.csrf import csrf_protect

from baskets import database
from baskets.admin import display, snapshots
from baskets.admin.readonly import ReadOnlyAdmin
from baskets.admin.repair_forms import DaysForm, ItemForm, LateForm, RepairForm, SupplyForm, UnsoldForm
from baskets.admin.snapshots import Snapshot
from baskets.admin.staff import staff_actor
from baskets.domain import repair, transactions
from baskets.domain.errors import LapsedHolds, LapsedSession, OutOfStock, Refusal
from baskets.models import Attention, Basket, CheckoutSession, Event, Product

METHODS = ("GET", "HEAD", "POST")
Do = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Repair:
    """One named repair of one kind of record.

    :param slug: its address; its permission is called alike.
    :param fits: whether it can be offered for a record in its state.
    :param do: called with the record, what was said, and what every repair takes.
    :param reclaims: whether it takes stock, and must be told whether lapsed sessions may be expired for it.
    """

    slug: str
    title: str
    sentence: str
    fits: Callable[[Any], bool]
    do: Do
    form: type[RepairForm] = RepairForm
    reclaims: bool = False

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


def links(kind: Kind, request: HttpRequest, record: Any) -> list[tuple[str, str]]:
    """The repairs that fit a record and that whoever looks may do: address and label."""
    name = f"admin:baskets_{record._meta.model_name}_repair"  # noqa: SLF001 (Django's own name for it)
    return [
        (reverse(name, args=[quote(record.pk), each.slug]), each.title)
        for each in kind.repairs
        if each.fits(record) and request.user.has_perm(each.permission)
    ]


class RepairDesk(ReadOnlyAdmin[Any]):
    """Adds the repairs of a kind of record to its pages."""

    kind: Kind

    def more_urls(self) -> list[URLPattern]:
        """One address for each repair."""
        view = self.admin_site.admin_view(self.repair)
        return [path("<path:object_id>/repair/<slug:slug>/", view, name=f"baskets_{self.opts.model_name}_repair")]

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


@dataclass(frozen=True, kw_only=True)
class Page:
    """One request for a repair."""

    desk: RepairDesk
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
        try:
            transactions.run(self.operation(form.said, seen=seen, reason=reason))
        except Refusal as refusal:
            return self.show(self.renewed(form), rehearsed=True, problem=refusal, status=409)
        except (DatabaseError, InterfaceError) as error:
            if database.fault_of(error) is database.Fault.BUG:
                raise
            problem = "The database is busy, or somebody else is at it just now. Nothing was done; try again."
            return self.show(form, rehearsed=False, problem=problem, status=503)
        messages.success(self.request, f"Done: {self.chosen.title.lower()}.")
        return HttpResponseRedirect(self.desk.kind.back(self.record))

    def operation(self, said: dict[str, Any], *, seen: int, reason: str) -> Callable[[bool], None]:
        """The domain call, for the runner of transactions."""
        chosen, actor = self.chosen, staff_actor(self.request)

        def operation(reclaim: bool) -> None:  # noqa: FBT001 (as the runner calls it)
            more = {"reclaim": reclaim} if chosen.reclaims else {}
            chosen.do(self.record, said, seen=seen, reason=reason, actor=actor, **more)

        return operation

    def fresh_form(self) -> RepairForm:
        """A form for the state there is now."""
        return self.chosen.form(initial={"seen": self.desk.kind.state(self.record)}, record=self.record)

    def renewed(self, form: RepairForm) -> RepairForm:
        """The same form, upon the state there is now."""
        data = self.request.POST.copy()
        data["seen"] = str(self.desk.kind.state(self.record))
        renewed = type(form)(data, record=self.record)
        renewed.is_valid()
        return renewed

    def show(self, form: RepairForm, *, rehearsed: bool, problem: Refusal | str | None = None, status: int = 200) -> HttpResponse:
        """Show the page: the form, and what would change."""
        form = self.renewed(form) if form.is_bound and rehearsed else form
        changes, obstacle = self.rehearse(form) if rehearsed else ([], None)
        possible = not isinstance(obstacle, Refusal)
        confirmed = possible and form.asks and rehearsed and form.is_bound and form.is_valid()
        context = {
            "title": self.chosen.title,
            "name": display.visible(self.record if isinstance(self.record, Product) else _name(self.record)),
            "record": self.record,
            "sentence": self.chosen.sentence,
            "form": form,
            "changes": changes,
            "problem": _told(problem),
            "since": _since(problem),
            "obstacle": _told(obstacle),
            "confirm": form.shown if confirmed else None,
            "rehearsed": obstacle is None,
            "possible": possible,
            "submit": self.chosen.title if confirmed or not form.asks else "Show what will change",
            "back": self.desk.kind.back(self.record),
        }
        return self.desk.render(self.request, "admin/baskets/repair.html", context, status=status)

    def rehearse(self, form: RepairForm) -> tuple[list[tuple[str, object, object, bool]], Refusal | str | None]:
        """Find out what would change, or what stands in the way."""
        valid = form.is_bound and form.is_valid()
        if form.asks and not valid:
            return [], None
        operation = self.operation(
            form.said if valid else {},
            seen=self.desk.kind.state(self.record),
            reason=form.cleaned_data["reason"] if valid else "rehearsal",
        )
        try:
            before, after = repair.rehearse(operation=operation, look=lambda: self.desk.kind.look(self.record))
        except Refusal as refusal:
            return snapshots.differences(self.desk.kind.look(self.record), None), refusal
        except (LapsedHolds, LapsedSession):
            told = "Lapsed checkouts stand in the way, or hold the stock it needs. They are expired first, and then it is tried."
            return snapshots.differences(self.desk.kind.look(self.record), None), told
        return snapshots.differences(before, after), None


def _name(record: Any) -> str:
    if isinstance(record, Basket):
        return record.user_id
    return str(record.session.order_no if isinstance(record, Attention) else record.order_no)


def _told(problem: Refusal | str | None) -> str:
    if isinstance(problem, OutOfStock):
        missing = ", ".join(f"{each.product_id}: {each.wanted} wanted, {each.available} there" for each in problem.missing)
        return f"{problem} {missing}"
    return str(problem or "")


def _since(problem: object) -> list[object]:
    """What has happened since the page was made, in lines."""
    if not isinstance(problem, repair.StateMoved):
        return []
    return [
        format_html(
            "{} {} by {}",
            display.moment(each.at if isinstance(each, Event) else each.created_at),
            each.get_kind_display(),
            display.visible(each.actor),
        )
        for each in problem.since
    ]


# --- The repairs there are ------------------------------------------------------


def _basket_state(basket_id: UUID) -> int:
    return Basket.objects.values_list("events", flat=True).get(pk=basket_id)


def _basket_page(basket_id: UUID) -> str:
    return reverse("admin:baskets_basket_change", args=[basket_id])


STATUS = CheckoutSession.Status
SESSIONS = Kind(
    state=lambda session: _basket_state(session.basket_id),
    look=snapshots.of_session,
    back=lambda session: _basket_page(session.basket_id),
    repairs=[
        Repair(
            slug="finish-as-ordered",
            title="Finish as ordered",
            sentence="The checkout becomes an order, as if the partner had reported it: what it holds is sold.",
            fits=lambda session: session.status == STATUS.ACTIVE,
            do=lambda session, _, *, seen, **more: repair.finish_as_ordered(session=session, expected_events=seen, **more),
        ),
        Repair(
            slug="abort",
            title="Abort the checkout",
            sentence="The checkout ends without an order: what it holds is released, and every item returns to the cart.",
            fits=lambda session: session.status == STATUS.ACTIVE,
            do=lambda session, _, *, seen, **more: repair.abort(session=session, expected_events=seen, **more),
        ),
        Repair(
            slug="order-late",
            title="Order late",
            sentence=(
                "The checkout that was aborted or has expired becomes an order after all, whatever the grace period:"
                " its stock is taken again, and what had come back leaves the cart."
            ),
            fits=lambda session: session.status in (STATUS.ABORTED, STATUS.EXPIRED),
            form=LateForm,
            reclaims=True,
            do=lambda session, said, *, seen, **more: repair.order_late(session=session, expected_events=seen, **said, **more),
        ),
        Repair(
            slug="reverse-order",
            title="Reverse the order",
            sentence=(
                "The goods came back: the sold pieces return as a new supply, and the timeline says so."
                " The order itself stays as it is, because ordered is final."
            ),
            fits=lambda session: session.status == STATUS.ORDERED,
            do=lambda session, _, *, seen, **more: repair.reverse_order(session=session, expected_events=seen, **more),
        ),
    ],
)
MATTERS = Kind(
    state=lambda matter: _basket_state(matter.basket_id),
    look=snapshots.of_matter,
    back=lambda matter: _basket_page(matter.basket_id),
    repairs=[
        Repair(
            slug="settle",
            title="Settle this matter",
            sentence="Somebody has seen to it, and the reason says how: refunded, delivered, or agreed with the customer.",
            fits=lambda matter: matter.settled_at is None,
            do=lambda matter, _, *, seen, **more: repair.settle(attention=matter, expected_events=seen, **more),
        )
    ],
)
BASKETS = Kind(
    state=lambda basket: _basket_state(basket.pk),
    look=lambda basket: snapshots.of_basket(basket.pk),
    back=lambda basket: _basket_page(basket.pk),
    repairs=[
        Repair(
            slug="change-item",
            title="Change an item",
            sentence="An item in the cart or the saved list gets another count, moves to the other list, or is removed.",
            fits=lambda basket: basket.hidden_at is None,
            form=ItemForm,
            do=lambda basket, said, *, seen, **more: repair.change_item(
                basket=basket,
                product_id=said["product"],
                count={"cart": said["count"], "saved": 0, "out": -1}[said["to"]],
                expected_events=seen,
                **more,
            ),
        ),
        Repair(
            slug="extend",
            title="Let it last longer",
            sentence="The basket expires later. Its lists do not change.",
            fits=lambda basket: basket.hidden_at is None,
            form=DaysForm,
            do=lambda basket, said, *, seen, **more: repair.extend(basket=basket, expected_events=seen, **said, **more),
        ),
        Repair(
            slug="end",
            title="End the basket",
            sentence="The basket is emptied and hidden, as if its user had deleted it. Orders and the timeline stay.",
            fits=lambda basket: basket.hidden_at is None,
            do=lambda basket, _, *, seen, **more: repair.end(basket=basket, expected_events=seen, **more),
        ),
    ],
)
PRODUCTS = Kind(
    state=lambda product: repair.last_adjustment(product.pk),
    look=snapshots.of_product,
    back=lambda product: reverse("admin:baskets_product_change", args=[quote(product.pk)]),
    repairs=[
        Repair(
            slug="set-unsold",
            title="Set the unsold pieces",
            sentence="What is held stays held: available is this number less what is held, and what is missing is shortfall.",
            fits=lambda _: True,
            form=UnsoldForm,
            do=lambda product, said, *, seen, **more: repair.set_unsold(
                product_id=product.pk, unsold=said["unsold"], expected_adjustment=seen, **more
            ),
        ),
        Repair(
            slug="adjust-supply",
            title="Record pieces added or removed",
            sentence="Pieces came in or were taken out. What comes in pays off a shortfall first.",
            fits=lambda product: bool(getattr(product, "stock", None) and product.stock.limited),
            form=SupplyForm,
            do=lambda product, said, *, seen, **more: repair.adjust_supply(product_id=product.pk, expected_adjustment=seen, **said, **more),
        ),
    ],
)
