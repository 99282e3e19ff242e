"""`allow_origins` at the shell."""

from collections.abc import Callable
from typing import Any

import pytest

from baskets.domain.access import partners
from baskets.models import Partner
from tests.commands.conftest import Run
from tests.factories import TESTER

pytestmark = pytest.mark.django_db


def test_origins_are_replaced_by_those_that_are_named(run: Run, stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    done = run("allow_origins", "acme", "https://b.example", "https://a.example:8443", "https://b.example")
    assert (done.code, done.out, done.err) == (0, "Allowed https://a.example:8443, https://b.example for partner 'acme'.\n", "")
    assert Partner.objects.get().origins == ["https://a.example:8443", "https://b.example"]
    before = stored_rows()
    assert run("allow_origins", "acme", "--dry-run").out == "Would allow no origin for partner 'acme'.\n"
    assert run("allow_origins", "acme", "*").code == 1
    assert run("allow_origins", "unknown").code == 1
    assert run("allow_origins").code == 2
    assert stored_rows() == before
    assert run("allow_origins", "acme", "--json").data == {"partner": "acme", "origins": [], "dry_run": False}
