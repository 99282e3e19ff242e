"""Baskets that have left one cell and have not arrived in the other, when staff go on differently."""

from collections.abc import Callable

import pytest
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
