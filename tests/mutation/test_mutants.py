"""Makes each mistake in a copy of the tree and runs the tests that must fail there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LongRun
from tests.mutation.mutations import MUTATIONS
from tests.mutation.mutations.mutation import Mutation
from tests.mutation.places import PROJECT, mutate, resolve

PARTS = ("baskets", "basket_project", "tests", "templates", "pyproject.toml", "manage.py", ".requirements", "README.md")
FAILED = 1  # The exit code of pytest if tests have failed.


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_applies_to_the_code_of_today(mutation: Mutation) -> None:
    """Fails where the code has moved on and the list has to follow."""
    file, names = resolve(mutation.place)
    source = (PROJECT / file).read_text()
    broken = mutate(source, names=names, old=mutation.old, new=mutation.new)
    assert broken != source
    compile(broken, file, "exec")
    assert all((PROJECT / name).exists() for name in mutation.tests)


@pytest.mark.long
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_mutation_is_noticed_by_its_tests(mutation: Mutation, tmp_path: Path, long_run: LongRun) -> None:
    for part in PARTS:
        source = PROJECT / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, tmp_path / part, **({"ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}))
    file, names = resolve(mutation.place)
    broken = tmp_path / file
    broken.write_text(mutate(broken.read_text(), names=names, old=mutation.old, new=mutation.new))
    codes = []
    for tests in mutation.tests:
        codes.append(_run(tmp_path, tests))
        if codes[-1] != 0:
            break
    long_run.record(**{"mutants_noticed" if codes[-1] == FAILED else "mutants_that_survived": 1})
    assert codes[-1] == FAILED, f"{mutation.name}: {codes}"


def _run(tree: Path, tests: str) -> int:
    """Run tests of a copy, on a separate database of the same server.

    :returns: the exit code of pytest; 1 if a test has failed.
    """
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
