"""Builds the state in which calls meet, and reads everything that is stored afterwards."""

from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.db import connection, models

from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.baskets.transfers import offer_transfer
from baskets.domain.checkout import expiry
from baskets.domain.comfort import change_comfort, read_comfort
from baskets.domain.errors import Refusal
from baskets.domain.events import feed
from baskets.domain.maintenance import invariant_checker, retention
from baskets.domain.support import stock_repairs
from baskets.models import Attention, Basket, CheckoutSession, Event, StockAdjustment, StockReservation, Transfer
from baskets.models.basket_snapshot import Owner, ShownBasket, read_basket
from tests.conftest import APP
from tests.domain.scenarios import User, available
from tests.factories import PartnerFactory, ProductFactory
from tests.time_travel import age_all_rows

STAFF = Actor(kind=ActorKind.STAFF, name="rita")
HISTORY_AGE = timedelta(days=2)
RETENTION = timedelta(days=1)


@dataclass(frozen=True)
class Scenario:
    """The shopper at whose basket the calls meet, and what staff saw of it before.

    :param seen: the basket as their page shows it.
    :param session: the last one, whatever has become of it.
    :param old: one that was aborted long ago.
    :param token: what another device may take the basket over with; empty where there is none.
    """

    shopper: User
    session: CheckoutSession
    old: CheckoutSession
    seen: Basket
    adjusted: int
    token: str

    @property
    def third_shopper(self) -> User:
        """Another user, whose checkout has lapsed in some scenarios."""
        return self.shopper.beside("cleo")


def _build_history(shopper: User) -> None:
    """An order and an abort, of which a purge leaves nothing where it may."""
    for ordered in (True, False):
        shopper.place("shirt", 1)
        shopper.start()
        shopper.finish(ordered=ordered)
    shopper.remove("shirt")


def _build_present(kind: str, shopper: User) -> None:
    third_shopper = shopper.beside("cleo")
    if kind == "failed":
        third_shopper.place("cap", 5)
        third_shopper.start()
    shopper.place("shirt", 3)
    shopper.place("cap", 1)
    shopper.start()
    if kind == "failed":
        third_shopper.wait(minutes=31)
    if kind == "aborted":
        shopper.finish(ordered=False)
        provoke_flag(shopper)
    else:
        shopper.place("cap", 2)
    if kind in ("lapsed", "expired", "two lapsed"):
        shopper.wait(minutes=32)
    if kind == "two lapsed":
        third_shopper.place("shirt", 3)
        third_shopper.start()
        third_shopper.wait(minutes=31)
    if kind == "expired":
        expiry.sweep_sessions()


def provoke_flag(user: User) -> None:
    """An order that is refused, so that staff have something to settle."""
    try:
        user.finish(ordered=True)
    except Refusal:
        return
    raise AssertionError


def build_scenario(kind: str) -> Scenario:
    """Empty the tables and bring a shopper to the state in which the calls meet.

    That is `active`, `lapsed`, `aborted` or `expired`; `failed`, in a checkout with a failed item whose pieces
    the third shopper held until their checkout lapsed; `two lapsed`, beside a later lapsed checkout of the third shopper; or `gone`,
    with nothing but history.
    """
    tables = ", ".join(model._meta.db_table for model in apps.get_app_config("baskets").get_models())
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {tables}")
    ProductFactory(product_id="shirt", unsold=8 if kind == "two lapsed" else 6)
    ProductFactory(product_id="cap", unsold=5)
    shopper = User(Owner(partner_id=PartnerFactory(late_orders="accept").pk, user_id="anna"))
    change_comfort(owner=shopper.owner, values={"customer_id": "c-1"}, consent=True)
    _build_history(shopper)
    old = CheckoutSession.objects.get(status="ABORTED")
    if kind == "gone":
        shopper.delete()
    feed.assign_positions()
    age_all_rows(HISTORY_AGE)
    token = ""
    if kind != "gone":
        _build_present(kind, shopper)
        token = runner.run(offer_transfer, owner=shopper.owner, actor=APP).token
    mine = CheckoutSession.objects.filter(basket_id=shopper.owner.basket_id)
    return Scenario(
        shopper=shopper,
        session=mine.latest("pk"),
        old=old,
        seen=Basket.objects.get(user_id="anna"),
        adjusted=stock_repairs.last_adjustment("shirt"),
        token=token,
    )


def purge_all() -> None:
    """Purge to the end, as the command does. A purge skips locked baskets, so its counts are ignored."""
    feed.assign_positions()
    after = None
    while (batch := retention.purge_baskets(older_than=RETENTION, after=after)).last is not None:
        after = batch.last


def final_state(*, purging: bool) -> Any:
    """All that is stored once a sweep has been by, which passes baskets in use; without what differs from run to run.

    :param purging: whether a purge is to be by as well, which passes them too.
    """
    expiry.sweep_sessions()
    if purging:
        purge_all()
    assert invariant_checker.check_invariants() == []
    baskets = list(Basket.objects.all())
    names = {basket.pk: _stable_name(basket.user_id) for basket in baskets}

    def count_rows(rows: Any, *fields: str) -> Counter[Any]:
        return Counter((names[basket_id], *rest) for basket_id, *rest in map(tuple, rows.values_list("basket_id", *fields)))

    return {
        "baskets": Counter(_basket_state(basket) for basket in baskets),
        "stock": {product: available(product) for product in ("shirt", "cap")},
        "supply": Counter(StockAdjustment.objects.values_list("product_id", "kind", "delta")),
        "sessions": _stringified(count_rows(CheckoutSession.objects, "status", "late", "full_price")),
        "reservations": _stringified(count_rows(StockReservation.objects, "product_id", "status", "pieces")),
        "flags": _stringified(count_rows(Attention.objects, "reason", "settled_by")),
        "events": _stringified(count_rows(Event.objects, "kind", "data__repair")),
        "transfers": _stringified(count_rows(Transfer.objects.annotate(open=models.Q(redeemed_at=None)), "open")),
        "comfort": read_comfort(owner=Owner(partner_id=baskets[0].partner_id, user_id="anna")).customer_id if baskets else None,
    }


def _stringified(count_rows: Counter[Any]) -> dict[Any, int]:
    return {tuple(map(str, row)): number for row, number in count_rows.items()}


def _stable_name(user_id: str) -> str:
    """Names that are drawn differ from run to run."""
    kind, dash, _ = user_id.partition("-")
    return kind + dash


def _basket_state(basket: Basket) -> Any:
    snapshot = read_basket(basket.pk)
    assert snapshot is not None
    extended = basket.expires_at > basket.last_changed_at + timedelta(days=31)
    return _stable_name(basket.user_id), basket.revision, basket.events, basket.events_purged, extended, lists_of(snapshot)


def lists_of(snapshot: ShownBasket) -> tuple[Any, ...]:
    """The lists of a basket, in a form that is compared."""
    return (
        snapshot.is_open,
        tuple((line.product_id, line.count) for line in snapshot.cart),
        tuple((line.product_id, line.count) for line in snapshot.saved),
        tuple((line.product_id, line.count, line.stocked) for line in snapshot.checkout),
    )
