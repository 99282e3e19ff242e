"""Partners: their defaults, unique names, values that are refused."""

from collections.abc import Callable
from typing import Any

import pytest

from baskets.domain.access import partners
from baskets.domain.access.partners import PartnerNameTaken
from baskets.domain.validation import InvalidValue
from baskets.models import Partner
from tests.factories import TESTER

pytestmark = pytest.mark.django_db


def test_partner_has_the_defaults_of_the_service() -> None:
    partner = partners.create_partner(name="Acme TV", actor=TESTER)
    assert (partner.name, partner.late_orders, partner.hold_seconds) == ("Acme TV", "refuse", None)


def test_name_is_unique(stored_rows: Callable[[], dict[str, list[Any]]]) -> None:
    partners.create_partner(name="acme", late_orders="accept", hold_seconds=60, actor=TESTER)
    before = stored_rows()
    with pytest.raises(PartnerNameTaken):
        partners.create_partner(name="acme", actor=TESTER)
    assert stored_rows() == before
    assert partners.create_partner(name="ACME", actor=TESTER).name == "ACME"


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"name": ""}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "  "}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "x" * 101}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\x00b"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\nb"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\u202eb"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a\ud800b"}, "A partner's name has 1 to 100 printable characters."),
        ({"name": "a", "hold_seconds": 0}, "A hold lasts from 1 to 604800 seconds."),
        ({"name": "a", "hold_seconds": -1}, "A hold lasts from 1 to 604800 seconds."),
        ({"name": "a", "hold_seconds": 604801}, "A hold lasts from 1 to 604800 seconds."),
        ({"name": "a", "share_percent": -1}, "A share is 0 to 100 percent."),
        ({"name": "a", "share_percent": 101}, "A share is 0 to 100 percent."),
        ({"name": "a", "late_orders": "maybe"}, "Late orders are either refused or accepted: `refuse` or `accept`."),
    ],
)
def test_invalid_value_is_refused(values: dict[str, Any], problem: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        partners.create_partner(**values, actor=TESTER)
    assert str(refusal.value) == problem
    assert not Partner.objects.exists()
