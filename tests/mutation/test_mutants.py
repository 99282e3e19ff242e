"""Each mistake is made in a copy of the tree, and the tests that should notice it are run there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Long
from tests.mutation.mutations import MUTATIONS, Mutation

PROJECT = Path(__file__).parents[2]
PARTS = ("baskets", "basket_project", "tests", "templates", "pyproject.toml", "manage.py", ".requirements", "README.md")
FAILED = 1


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_can_still_be_made(mutation: Mutation) -> None:
    """Its text is there, once; or the list has to follow the code."""
    assert (PROJECT / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old
    assert all((PROJECT / name).exists() for name in mutation.tests)


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_is_noticed(mutation: Mutation, tmp_path: Path, long_run: Long) -> None:
    for part in PARTS:
        source = PROJECT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / part, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
    broken = tmp_path / mutation.file
    broken.write_text(broken.read_text().replace(mutation.old, mutation.new))
    codes = []
    for tests in mutation.tests:
        codes.append(_run(tmp_path, tests))
        if codes[-1] != 0:
            break
    long_run.tell(**{"mutants_noticed" if codes[-1] == FAILED else "mutants_that_survived": 1})
    assert codes[-1] == FAILED, f"{mutation.name}: {codes}"


def _run(tree: Path, tests: str) -> int:
    """Run tests of a copy, on a database of its own beside ours."""
    address = os.environ["DATABASE_URL"].rpartition("/")[0]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--create-db", tests],
        cwd=tree,
        env=os.environ | {"DATABASE_URL": f"{address}/mutant", "PYTHONPATH": str(tree)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=600,
    )
    return ended.returncode
