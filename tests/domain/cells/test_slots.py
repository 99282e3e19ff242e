"""Slots of users: the same in Python and in PostgreSQL, evenly used, and divided with few moves."""

import itertools
from collections import Counter
from pathlib import Path

import pytest
from django.apps import apps
from django.db import connection
from pytest_django import Settings

from baskets.domain import slots
from baskets.domain.cells import basket_copies
from baskets.domain.cells.slot_division import divide, render_slot_map
from baskets.domain.errors import WrongCell


@pytest.mark.django_db
def test_postgresql_computes_the_same_slot() -> None:
    names = ["demo-anna", "\u00fcber + %2F", "\U0001f6d2", "x" * 255, *(f"user-{number}" for number in range(200))]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {slots.SLOT_SQL} FROM unnest(%s::text[]) WITH ORDINALITY AS u (user_id, n) ORDER BY n", [names])  # noqa: S608 (a constant of ours)
        assert [slot for (slot,) in cursor.fetchall()] == [slots.slot_of(name) for name in names]


def test_consecutive_user_ids_use_all_slots_evenly() -> None:
    used = Counter(slots.slot_of(str(number)) for number in range(64_000))
    assert len(used) == slots.SLOTS
    assert all(850 < count < 1150 for count in used.values())


def test_a_further_cell_takes_its_share_and_nothing_else_moves() -> None:
    division = divide(1)
    for cells in range(2, 10):
        grown = divide(cells, current=division)
        assert {new for old, new in zip(division, grown, strict=True) if old != new} == {cells}
        assert max(Counter(grown).values()) - min(Counter(grown).values()) <= 1
        division = grown
    assert Counter(divide(2, current=division)) == {1: 32, 2: 32}


def test_map_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "slots.map"
    file.write_text(render_slot_map(divide(3, current=divide(2)), current=divide(2), partners={7: divide(1)}))
    assert slots.read_slot_map(str(file)) == slots.SlotMap(shared=divide(3, current=divide(2)), partners={7: divide(1)})
    assert file.read_text().startswith("# slot ")


WHOLE = render_slot_map(divide(1))


@pytest.mark.parametrize(
    "text",
    ["", "0 1\n", "0 1\n0 2\n", "64 1\n", "0 65\n", "a b\n", "0 1 2\n", "\u00e9", WHOLE + "7/0 1\n", WHOLE + "/0 1\n"]
    # HAProxy looks a slot up by its text, and takes the rest of the line for the cell.
    + [WHOLE.replace("\n5 1\n", f"\n{line}\n") for line in ("05 1", "5 01", "5 1 # soon 2")]
    + [render_slot_map(divide(1), partners={7: divide(1)}).replace("7/5 1", "07/5 1")],
    ids=itertools.count(),
)
def test_an_incomplete_map_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "slots.map"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(slots.InvalidSlotMap):
        slots.read_slot_map(str(file))
    with pytest.raises(slots.InvalidSlotMap):
        slots.read_slot_map(str(tmp_path / "missing"))


def test_a_cell_without_slots_generates_no_name(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "slots.map"
    file.write_text(render_slot_map(divide(2)))
    settings.BASKETS_CELL, settings.BASKETS_SLOT_MAP = 3, str(file)
    with pytest.raises(WrongCell):
        slots.generate_in_this_cell(lambda: "any", partner_id=1)
    settings.BASKETS_CELL = 2
    names = iter(map(str, range(1000)))
    name = slots.generate_in_this_cell(lambda: next(names), partner_id=1)
    assert divide(2)[slots.slot_of(name)] == 2


def test_every_table_of_a_basket_moves() -> None:
    """A table with a key of a basket moves with it, or is named as one that does not."""
    models = apps.get_app_config("baskets").get_models()
    columns = {model._meta.db_table: {field.column for field in model._meta.concrete_fields} for model in models}
    of_basket = {table for table, names in columns.items() if "basket_id" in names}
    assert of_basket == set(basket_copies.PARTS) - {"baskets_basket", "baskets_deskentry"} | set(basket_copies.NOT_COPIED)
