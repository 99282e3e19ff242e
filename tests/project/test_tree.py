"""The shape of the repository, and the import rules that no tool checks."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
TOP_LEVEL = {"manage.py", "pyproject.toml", "README.md", "basket_project", "baskets", "tests", "templates"}


def imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_top_level_has_only_the_specified_names() -> None:
    listing = subprocess.run(["/usr/bin/env", "git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=False)
    if listing.returncode != 0:
        pytest.skip("not a git checkout, so the project's files are unknown")
    top = {line.partition("/")[0] for line in listing.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


LAUNCHER = [*sorted((PROJECT / "basket_project" / "launcher").glob("*.py")), PROJECT / "basket_project" / "variables.py"]


@pytest.mark.parametrize("path", LAUNCHER, ids=lambda path: path.stem)
def test_the_launcher_imports_the_standard_library_only(path: Path) -> None:
    for name in imported_by(path):
        top = name.partition(".")[0]
        assert top in sys.stdlib_module_names or name.startswith(("basket_project.launcher.", "basket_project.variables.")), name


@pytest.mark.parametrize("layer", ["domain", "models"])
def test_rules_and_shapes_know_nothing_of_http(layer: str) -> None:
    for path in sorted((PROJECT / "baskets" / layer).rglob("*.py")):
        for name in imported_by(path):
            assert not name.startswith(("django.http", "django.shortcuts", "rest_framework")), f"{path.name} imports {name}"


@pytest.mark.parametrize("path", sorted((PROJECT / "basket_project").rglob("*.py")), ids=lambda path: path.stem)
def test_every_module_opens_with_a_sentence(path: Path) -> None:
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring, path
    assert docstring.partition("\n\n")[0].rstrip().endswith((".", "`."))


def test_migrations_build_indexes_so_that_a_second_attempt_works() -> None:
    for path in sorted((PROJECT / "baskets" / "migrations").glob("0*.py")):
        assert "django.contrib.postgres.operations.AddIndexConcurrently" not in imported_by(path), f"{path.name}: use baskets.db.operations"


def test_row_locks_have_one_spelling() -> None:
    sources = {path.relative_to(PROJECT).as_posix(): path.read_text() for path in (PROJECT / "baskets").rglob("*.py")}
    sources = {name: text for name, text in sources.items() if "/migrations/" not in name}
    assert {name for name, text in sources.items() if "select_for_update" in text} == {"baskets/models/locking.py"}
    # Raw SQL locks in the same mode, except for rows that it deletes.
    for name, text in sources.items():
        raw = re.findall(r"\bFOR (?:UPDATE|SHARE|KEY SHARE)\b.*", text)
        assert set(raw) <= ({"FOR UPDATE SKIP LOCKED"} if "DELETE FROM" in text else set()), name
