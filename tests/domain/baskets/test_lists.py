"""The rules of the lists, searched for a case that loses, doubles or misplaces something. No database is needed."""

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baskets.domain import errors
from baskets.domain.baskets import lists
from baskets.models.basket_snapshot import BasketLine, BasketSnapshot

NOW = datetime(2026, 2, 28, 23, 59, 59, tzinfo=UTC)
EMPTY = BasketSnapshot(
    basket_id=UUID(int=1),
    at=NOW,
    revision=0,
    events=0,
    created_at=NOW,
    last_changed_at=NOW,
    expires_at=NOW,
    hidden_at=None,
    guest=False,
    hold_override=None,
    late_orders="refuse",
)
PRODUCTS = st.sampled_from("abcdef")
# What users and shops do to the lists: place with a count (0 saves), remove, check out (each product held or failed), return, order.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("place"), PRODUCTS, st.integers(0, 999)),
        st.tuples(st.just("remove"), PRODUCTS),
        st.tuples(st.just("start"), st.sets(PRODUCTS)),
        st.tuples(st.just("abort")),
        st.tuples(st.just("order")),
    ),
    max_size=30,
)


def pieces(lines: tuple[BasketLine, ...]) -> Counter[str]:
    return Counter({line.product_id: line.count for line in lines})


def applied(snapshot: BasketSnapshot, step: tuple[object, ...]) -> BasketSnapshot:
    """Do one step the way the domain does, or nothing where it would refuse."""
    match step:
        case "place", str(product_id), int(count):
            line = BasketLine(product_id=product_id, count=count, position=0)
            return lists.with_product_in_cart(snapshot, line) if count else lists.with_product_in_saved(snapshot, line)
        case "remove", str(product_id):
            try:
                return lists.without_product(snapshot, product_id)
            except errors.ProductNotInBasket:
                return snapshot
        case "start", set(failing) if snapshot.cart and not snapshot.checkout:
            stocked = {line.product_id: -1 if line.product_id in failing else line.count for line in snapshot.cart}
            return snapshot._replace(cart=(), checkout=lists.checkout_lines(snapshot.cart, stocked))
        case ("abort" | "order" as end,):
            return lists.with_lines_returned(snapshot, tuple(line for line in snapshot.checkout if end == "abort" or line.failed))
    return snapshot


@given(STEPS)
def test_no_list_ever_holds_a_product_twice_or_out_of_order(steps: list[tuple[object, ...]]) -> None:
    snapshot = EMPTY
    for step in steps:
        snapshot = applied(snapshot, step)
        at_hand = [line.product_id for line in (*snapshot.cart, *snapshot.saved)]
        assert len(set(at_hand)) == len(at_hand)
        assert len({line.product_id for line in snapshot.checkout}) == len(snapshot.checkout)
        for lines in (snapshot.cart, snapshot.saved, snapshot.checkout):
            assert sorted(lines, key=lambda line: line.position) == list(lines)
        assert all(line.count > 0 for line in snapshot.lines())


@given(STEPS, st.sets(PRODUCTS))
def test_an_abort_gives_back_every_piece_and_an_order_all_that_failed(steps: list[tuple[object, ...]], failing: set[str]) -> None:
    snapshot = EMPTY
    for step in steps:
        snapshot = applied(snapshot, step)
    snapshot = applied(applied(snapshot, ("abort",)), ("start", failing))
    for end, back in (
        ("abort", pieces(snapshot.checkout)),
        ("order", pieces(tuple(line for line in snapshot.checkout if line.failed))),
    ):
        after = applied(snapshot, (end,))
        assert pieces(after.cart) == pieces(snapshot.cart) + back
        assert after.checkout == ()
        assert not {line.product_id for line in after.saved} & back.keys()


@given(STEPS)
def test_an_abort_right_after_a_start_restores_the_cart(steps: list[tuple[object, ...]]) -> None:
    snapshot = EMPTY
    for step in steps:
        snapshot = applied(snapshot, step)
    before = applied(snapshot, ("abort",))
    after = applied(applied(before, ("start", set())), ("abort",))
    assert (after.cart, after.saved) == (before.cart, before.saved)


@given(st.integers(1, 10), st.integers(1, 10))
def test_a_late_order_takes_no_more_than_came_back(in_cart: int, came_back: int) -> None:
    line = BasketLine(product_id="a", count=in_cart, position=1)
    after = lists.without_ordered_pieces(EMPTY._replace(cart=(line,)), {line.product_id: came_back})
    assert pieces(after.cart) == +Counter({"a": in_cart - came_back})


def test_the_end_of_the_order_counts_what_may_come_back() -> None:
    line = BasketLine(product_id="a", count=1, position=7, stocked=1)
    snapshot = EMPTY._replace(checkout=(line,))
    placed = lists.with_product_in_cart(snapshot, BasketLine(product_id="b", count=1, position=0))
    assert [item.position for item in placed.cart] == [8]
    with pytest.raises(errors.ProductNotInBasket):
        lists.without_product(snapshot, "a")
