"""Baskets between the commits of two cells: none leaves that the other cannot commit, and those that have left arrive there first."""

from collections.abc import Callable

import psycopg
import pytest
from django.db import IntegrityError
from pytest_django import Settings

from baskets.domain.cells import slot_moves
from tests.concurrency.test_slot_moves import api, count_events, move, names, read, slot_map  # noqa: F401 (two fixtures)
from tests.concurrency.test_stock_moves import cells, second_database  # noqa: F401 (two fixtures)
from tests.domain.scenarios import User


@pytest.mark.usefixtures("api")
def test_they_arrive_where_they_left_for_before_others_go_elsewhere(
    shopper: User,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],  # noqa: F811 (the fixture)
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shopper.beside(next(names(moving=True))).place("cap")
    count_events()
    slot_map(0)
    settings.BASKETS_CELL_DATABASES = ["cell_1", "cell_2", "cell_2"]
    with monkeypatch.context() as killed:
        killed.setattr(slot_moves, "_write_batch", lambda *_, **__: True)
        move(target=3)
    with pytest.raises(slot_moves.SlotMoveRefused, match="--to 3"):
        move(target=2)
    assert read(cells[1:], "SELECT count(*) FROM baskets_basket") == [[(0,)]]
    assert move(target=3).completed == 1


@pytest.mark.usefixtures("api")
def test_what_the_other_cell_cannot_commit_does_not_leave(
    shopper: User,
    cells: list[str],  # noqa: F811 (the fixture)
    slot_map: Callable[[int], str],  # noqa: F811 (the fixture)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Foreign keys are checked at COMMIT, and the other cell commits last."""
    user = shopper.beside(next(names(moving=True)))
    user.place("song")
    count_events()
    slot_map(0)
    # As if the partner were deleted there right after it was looked up.
    monkeypatch.setattr(slot_moves, "PARTNERS", "SELECT")
    with psycopg.connect(cells[1]) as second:
        second.execute("DELETE FROM baskets_partner")
    with pytest.raises(IntegrityError):
        move()
    assert user.lists()["cart"] != []
