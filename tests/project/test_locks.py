"""The locks install the same packages everywhere, and name no place to get them from."""

import re
from pathlib import Path

import pytest

LOCKS = Path(__file__).parents[2] / ".requirements"
NAMES = ("run", "tracing", "embedded", "test", "dev", "migrations")
PINNED = re.compile(r"^([a-z0-9-]+)==(\S+)", re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_a_lock_names_no_address_and_no_index(name: str) -> None:
    for path in (LOCKS / f"{name}.lock", LOCKS / f"{name}.in"):
        text = path.read_text()
        assert "://" not in text
        # Only the inputs point to each other; a lock stands alone.
        options = [line for line in text.splitlines() if line.startswith("-")]
        assert options == [line for line in options if path.suffix == ".in" and re.fullmatch(r"-c (run|test)\.lock", line)]
        assert not re.search(r"^\s*[/.]|@ |file:|#.*(/|via -r)", text, re.MULTILINE)


@pytest.mark.parametrize("name", NAMES)
def test_every_package_in_a_lock_is_pinned_by_version_and_hash(name: str) -> None:
    entries = re.split(r"\n(?=\S)", (LOCKS / f"{name}.lock").read_text().strip())
    assert entries
    for entry in entries:
        assert PINNED.match(entry), entry.splitlines()[0]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


def test_no_two_locks_disagree_about_a_version() -> None:
    seen: dict[str, str] = {}
    for name in NAMES:
        for package, version in PINNED.findall((LOCKS / f"{name}.lock").read_text()):
            assert seen.setdefault(package, version) == version, f"{package} in {name}.lock"
