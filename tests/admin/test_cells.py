"""The admin of one cell of several: which cell it is, where a user is found, and where something is changed."""

from pathlib import Path

import pytest
from django.contrib.auth.models import Group
from django.test import Client
from pytest_django import Settings

from baskets.domain import slots
from baskets.domain.cells.slot_division import divide, render_slot_map
from tests.admin.conftest import post
from tests.cells import published_by

pytestmark = pytest.mark.django_db
THEIRS = next(name for name in map("user-{}".format, range(99)) if divide(3)[slots.slot_of(name)] == 3)
OURS = next(name for name in map("user-{}".format, range(99)) if divide(3)[slots.slot_of(name)] == 2)


@pytest.fixture
def cell(settings: Settings, tmp_path: Path) -> None:
    """Make the service cell 2 of 3."""
    file = tmp_path / "slots.map"
    file.write_text(render_slot_map(divide(3)))
    settings.BASKETS_CELL, settings.BASKETS_SLOT_MAP = 2, str(file)
    settings.BASKETS_PUBLIC_URL = "https://baskets.example.com"


def searched(client: Client, typed: str) -> str:
    return client.get("/admin/search/", {"q": typed}).content.decode()


@pytest.mark.usefixtures("cell")
def test_a_search_leads_to_the_cell_of_a_user(viewer: Client) -> None:
    page = searched(viewer, THEIRS)
    assert f"A user with the id “{THEIRS}” belongs to cell 3." in page
    assert f'<a href="https://cell3.baskets.example.com/admin/search/?q={THEIRS}">Search in cell 3</a>' in page
    assert "belongs to cell" not in searched(viewer, OURS)
    assert "belongs to cell 1" in searched(viewer, "demo-anna")  # It might be the beginning of an order number, too.
    order = searched(viewer, "M0R1-7HB9-10QY-QWYP")
    assert "An order of another cell is found there only." in order
    assert "Search in cell 1" in order
    assert "Search in cell 2" not in order


def test_the_host_name_of_this_cell_is_replaced(viewer: Client, settings: Settings, cell: None) -> None:
    settings.BASKETS_PUBLIC_URL, settings.ALLOWED_HOSTS = "", ["cell2.baskets.example.com"]
    page = viewer.get("/admin/search/", {"q": THEIRS}, headers={"host": "cell2.baskets.example.com"}).content.decode()
    assert f'href="http://cell3.baskets.example.com/admin/search/?q={THEIRS}"' in page


def test_staff_see_the_cell_they_are_in(viewer: Client, settings: Settings, cell: None) -> None:
    assert "Baskets, cell 2</a>" in searched(viewer, OURS)
    settings.BASKETS_CELL = 0
    page = searched(viewer, THEIRS)
    assert "Baskets</a>" in page
    assert "belongs to cell" not in page


@pytest.mark.usefixtures("cell")
def test_what_another_cell_publishes_is_changed_there(root: Client) -> None:
    before = Group.objects.count()
    with published_by(1, "auth_group"):
        response = post(root, "/admin/auth/group/add/", {"name": "more"})
    page = response.content.decode()
    assert response.status_code == 409
    assert "This is changed in cell 1" in page
    assert '<a class="button" href="https://cell1.baskets.example.com/admin/auth/group/add/">Open the page in cell 1</a>' in page
    assert Group.objects.count() == before
