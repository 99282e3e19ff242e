"""One rule says what a product id is; Python, PostgreSQL and the schema agree on it."""

import importlib
import re

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.migrations.loader import MigrationLoader

from baskets.api.protocol.identifiers import PRODUCT_PATTERN, is_product_id
from baskets.db.errors import constraint_of
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock.catalog import product_id_problem
from baskets.models import Product
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory

VALID = [
    "a", ".", "..", "a b", "a\u00a0b", "A-1_2", "=1+1", "-1", "'", '"', "a;b,c|d", "%2F", "\\", "?#&", "x" * 255, "\u65e5\u672c",
    "caf\u00e9", "cafe\u0301", "\U0001f381", "\u0600", "\ufffd", "<script>",
]  # fmt: skip
INVALID = {
    "": "is empty",
    "x" * 256: "has 256 characters, 255 at most",
    "a/b": "has a slash (U+002F)",
    "/": "has a slash (U+002F)",
    "a\tb": "has a control character (U+0009)",
    "a\n": "has a control character (U+000A)",
    "\x1b[2J": "has a control character (U+001B)",
    "\x7f": "has a control character (U+007F)",
    "a\x85": "has a control character (U+0085)",
    "a\u2028b": "has a line separator (U+2028)",
    "a\u2029": "has a paragraph separator (U+2029)",
    "a\u00adb": "has an invisible character (U+00AD)",
    "a\u034f": "has an invisible character (U+034F)",
    "\u061ca": "has an invisible character (U+061C)",
    "a\u115f": "has an invisible character (U+115F)",
    "a\u180e": "has an invisible character (U+180E)",
    "a\u200b": "has an invisible character (U+200B)",
    "a\u200db": "has an invisible character (U+200D)",
    "a\u202eb": "has an invisible character (U+202E)",
    "a\u2060b": "has an invisible character (U+2060)",
    "a\u2069": "has an invisible character (U+2069)",
    "a\u2800": "has an invisible character (U+2800)",
    "a\u3164": "has an invisible character (U+3164)",
    "\u2764\ufe0f": "has an invisible character (U+FE0F)",
    "\ufeffa": "has an invisible character (U+FEFF)",
    "a\uffa0": "has an invisible character (U+FFA0)",
    "a\ufff9": "has an invisible character (U+FFF9)",
    "a\U0001d173": "has an invisible character (U+1D173)",
    "a\U000e0041": "has an invisible character (U+E0041)",
    "a\U000e0fff": "has an invisible character (U+E0FFF)",
    " ": "begins or ends with a blank (U+0020)",
    "   ": "begins or ends with a blank (U+0020)",
    "a ": "begins or ends with a blank (U+0020)",
    " a": "begins or ends with a blank (U+0020)",
    "a\u00a0": "begins or ends with a blank (U+00A0)",
    "\u1680a": "begins or ends with a blank (U+1680)",
    "a\u2007": "begins or ends with a blank (U+2007)",
    "a\u202f": "begins or ends with a blank (U+202F)",
    "\u205fa": "begins or ends with a blank (U+205F)",
    "\u3000a": "begins or ends with a blank (U+3000)",
}
UNSTORABLE = {"a\x00": "has a control character (U+0000)", "a\ud800": "has half of a surrogate pair (U+D800)"}


@pytest.mark.parametrize("product_id", VALID)
def test_an_id_that_can_be_seen_and_addressed_is_valid(db: None, product_id: str) -> None:
    assert product_id_problem(product_id) is None
    assert is_product_id(product_id)
    assert re.search(PRODUCT_PATTERN, product_id)
    assert ProductFactory(product_id=product_id).listed


@pytest.mark.parametrize(("product_id", "problem"), INVALID.items())
def test_every_judge_refuses_the_same_ids(db: None, product_id: str, problem: str) -> None:
    assert product_id_problem(product_id) == problem
    assert not is_product_id(product_id)
    # The pattern of the schema leaves the length to `maxLength`, and what is beyond the basic plane to the service.
    beyond = any(ord(character) > 0xFFFF for character in product_id)
    assert bool(re.fullmatch(PRODUCT_PATTERN, product_id)) == (beyond or len(product_id) > 255)
    if 0 < len(product_id) <= 255:
        with pytest.raises(IntegrityError) as refusal, transaction.atomic():
            ProductFactory(product_id=product_id)
        assert constraint_of(refusal.value) == "listed_product_id_is_valid"


@pytest.mark.parametrize(("product_id", "problem"), UNSTORABLE.items())
def test_what_the_database_cannot_store_is_no_id(product_id: str, problem: str) -> None:
    assert product_id_problem(product_id) == problem
    assert not is_product_id(product_id)


@pytest.mark.parametrize("value", [None, 1, True, [], {}, b"a"])
def test_only_a_text_is_an_id(value: object) -> None:
    assert not is_product_id(value)


def test_the_migration_takes_older_products_without_a_valid_id_off_the_list(db: None) -> None:
    migration = importlib.import_module("baskets.migrations.0016_product_ids").Migration
    before = MigrationLoader(connection).project_state(("baskets", "0015_stock_reports"))
    ProductFactory(product_id="fine")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE baskets_product DROP CONSTRAINT listed_product_id_is_valid")
    for product_id in ("a/b", "fine ", "a\u200bb", "\U000e0041"):
        ProductFactory(product_id=product_id)
    cart = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    cart.place("a/b", 2)
    after = before.clone()
    with connection.schema_editor(atomic=False) as editor:
        for operation in migration.operations:
            operation.state_forwards(apps.get_app_config("baskets").label, after)
            operation.database_forwards("baskets", editor, before, after)
    assert list(Product.objects.filter(listed=True).values_list("pk", flat=True)) == ["fine"]
    (finding,) = invariant_checker.check_invariants()
    assert (finding.invariant.slug, finding.total) == ("items_can_be_named", 1)
    cart.remove("a/b")
    assert list(invariant_checker.check_invariants()) == []
