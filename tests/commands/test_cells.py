"""The commands that set up cells: `slot_map`, `haproxy_config` and `claim_slots`."""

from pathlib import Path

import pytest
from pytest_django import Settings

from baskets.domain import slots
from baskets.domain.cells import slot_division
from baskets.domain.cells.slot_division import divide
from tests.commands.conftest import Run


def test_slot_map_is_what_services_read_and_grows_with_few_moves(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "slots.map"
    file.write_text(run("slot_map", "--cells", "2").out)
    assert slots.read_slot_map(str(file)).shared == divide(2)
    grown = run("slot_map", "--cells", "3", "--from", str(file), "--json").data
    assert grown == {"slots": list(divide(3, current=divide(2)))}
    file.write_text(slot_division.render_slot_map(divide(2), partners={7: [3] * slots.SLOTS}))
    wider = run("slot_map", "--cells", "4", "--from", str(file), "--json").data
    assert (set(wider["slots"]), wider["partners"]) == ({1, 2, 4}, {"7": [3] * slots.SLOTS})
    assert run("slot_map", "--cells", "2", "--to", "1", "--slots", "1", "--from", str(file)).code == run("slot_map", "--to", "1").code == 2
    file.write_text(slot_division.render_slot_map([slots.NO_CELL] * slots.SLOTS, partners={7: [1] * slots.SLOTS}))
    assert run("slot_map", "--cells", "1", "--from", str(file)).code == 2
    file.write_text("0 1")
    ended = run("slot_map", "--cells", "3", "--from", str(file))
    assert (ended.code, ended.out) == (1, "")
    assert "names 1 of 64 slots" in ended.err


def test_proxy_gets_each_server_of_each_cell(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "slots.map"
    file.write_text(run("slot_map", "--cells", "2").out)
    config = run("haproxy_config", "--slot-map", str(file), "--cell", "10.0.0.1:8000,10.0.0.2:8000", "--cell", "10.0.1.1:8000").out
    assert config.count("10.0.0.2:8000") == config.count("10.0.1.1:8000") == 2
    assert f"map({file},0)" in config
    assert run("haproxy_config", "--slot-map", str(file), "--cell", "10.0.0.1").code == 2


@pytest.mark.django_db(transaction=True)
def test_claimed_slots_are_those_of_the_cell(run: Run, settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "slots.map"
    file.write_text(run("slot_map", "--cells", "2").out)
    settings.BASKETS_CELL, settings.BASKETS_SLOT_MAP = 2, str(file)
    try:
        claimed = run("claim_slots", "--json").data
        assert claimed == {"cell": 2, "slots": [slot for slot, cell in enumerate(divide(2)) if cell == 2], "foreign_baskets": 0}
    finally:
        settings.BASKETS_CELL = 0
        assert run("claim_slots").out == "Every user belongs here.\n"
