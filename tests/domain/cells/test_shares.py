"""How pieces are divided among cells, in numbers alone."""

import random

from baskets.domain.cells.rebalancing import Level, plan_moves
from baskets.domain.cells.shares import divide, weigh


def test_pieces_are_divided_by_sales_without_a_rest() -> None:
    assert divide(100, weigh([30, 10, 0])) == [69, 23, 8]
    assert divide(7, weigh([0, 0, 0])) == [3, 2, 2]
    assert divide(0, weigh([5, 1])) == [0, 0]
    assert divide(10, [1, 1, 1], least=[7, 0, 0]) == [7, 2, 1]


def test_any_division_adds_up_and_gives_each_its_least() -> None:
    rng = random.Random(19)
    for _ in range(500):
        cells = rng.randint(1, 6)
        least = [rng.choice([0, 0, rng.randint(0, 20)]) for _ in range(cells)]
        pieces = sum(least) + rng.randint(0, 50)
        shares = divide(pieces, weigh([rng.randint(0, 9) for _ in range(cells)]), least=least)
        assert sum(shares) == pieces
        assert all(share >= minimum for share, minimum in zip(shares, least, strict=True))


def planned(*levels: tuple[int, int]) -> list[tuple[int, int, int]]:
    moves = plan_moves("shirt", {cell: Level(*level) for cell, level in enumerate(levels, 1)})
    return [(move.pieces, move.source, move.target) for move in moves]


def test_moves_are_planned_where_a_cell_has_less_than_half_of_its_share() -> None:
    assert planned((90, 2), (0, 40)) == [(80, 1, 2)]
    assert planned((50, 20), (50, 20)) == []
    assert planned((60, 20), (40, 20)) == []
    assert planned((9, 0), (0, 0), (0, 0)) == [(3, 1, 2), (3, 1, 3)]
    assert planned((1, 0), (0, 9)) == [(1, 1, 2)]
    assert planned((0, 5), (0, 5)) == []


def test_a_shortfall_is_covered_before_anything_else() -> None:
    assert planned((5, 0), (-2, 0)) == [(3, 1, 2)]
    assert planned((1, 0), (-4, 0)) == [(1, 1, 2)]
    assert planned((-1, 0), (-4, 0)) == []


def test_any_plan_keeps_the_sum_and_takes_no_more_than_there_is() -> None:
    rng = random.Random(20)
    for _ in range(500):
        levels = {cell: Level(rng.randint(-5, 40), rng.randint(0, 30)) for cell in range(1, rng.randint(3, 6))}
        free = {cell: level.free for cell, level in levels.items()}
        for move in plan_moves("shirt", levels):
            assert 0 < move.pieces <= free[move.source]
            free[move.source] -= move.pieces
            free[move.target] += move.pieces
        assert sum(free.values()) == sum(level.free for level in levels.values())
        assert min(free.values()) >= min(0, *(level.free for level in levels.values()))
