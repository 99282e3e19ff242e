"""All writes are functions of the domain: no view, admin page or command changes a row by itself."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EDGES = sorted(path for part in ("api", "admin", "management", "models") for path in (ROOT / "baskets" / part).rglob("*.py"))
WRITING = {
    *("save", "create", "bulk_create", "bulk_update", "get_or_create", "update_or_create", "delete"),
    *("acreate", "asave", "adelete", "aupdate", "save_model", "delete_model", "delete_queryset"),
}
SQL = re.compile(r"\b(INSERT\s+INTO|UPDATE\s+baskets_\w+|DELETE\s+FROM|TRUNCATE)\b")


def writes(source: str) -> list[str]:
    """What in a module writes to the database, as line and reason."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, chained = node.func.attr, isinstance(node.func.value, ast.Call)
            # `update` on the result of a call is a query set's; on a name it may be a dictionary's.
            if name in WRITING or (name == "update" and chained):
                found.append(f"{node.lineno}: .{name}()")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.search(node.value):
            found.append(f"{node.lineno}: SQL")
    return found


@pytest.mark.parametrize("path", EDGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_outside_the_domain_writes(path: Path) -> None:
    assert writes(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "basket.save()",
        "Basket.objects.create(user_id='x')",
        "Basket.objects.filter(pk=1).update(revision=1)",
        "Basket.objects.all().delete()",
        "cursor.execute('UPDATE baskets_basket SET revision = 1')",
        "cursor.execute('INSERT INTO baskets_event VALUES (1)')",
    ],
)
def test_the_search_finds_what_it_is_for(source: str) -> None:
    assert len(writes(source)) == 1


def test_the_search_passes_a_dictionary_by() -> None:
    assert writes("shown.update(stocked=None)") == []
