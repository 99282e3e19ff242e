"""The documents are true: links, names, commands and quotes exist, and their tables are complete."""

import ast
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.apps import apps
from django.urls import resolve

from baskets.api.protocol.versioning import SUPPORTED_VERSIONS
from baskets.api.serializers.requests import FinishCheckoutRequest
from baskets.models import Event
from tests.project.documents import (
    ADRS,
    DOCS,
    DOCUMENTS,
    DOTTED,
    LIFECYCLE,
    LINK,
    PATH,
    README,
    ROOT,
    anchors,
    coded,
    fenced,
    ids,
    prose,
    rows,
)

# --- Links and names ----------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in LINK.findall(prose(path)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (path.parent / file).resolve() if file else path
        if not there.is_file() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


def test_every_document_is_linked_from_another() -> None:
    linked = {(path.parent / target.partition("#")[0]).resolve() for path in DOCUMENTS for target in LINK.findall(prose(path))}
    assert {ids(path) for path in DOCUMENTS if path.resolve() not in linked} == {"README.md"}


def exists(name: str) -> bool:
    """Whether a dotted name can be imported, or reached from a module that can."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_functions_and_modules_that_are_named_exist(path: Path) -> None:
    names = {name for code in coded(prose(path)) if DOTTED.fullmatch(name := code) and not re.fullmatch(r"baskets\.[EW]\d+", code)}
    assert {name for name in names if not exists(name)} == set()


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_files_and_folders_that_are_named_exist(path: Path) -> None:
    named = {code for code in coded(prose(path)) if PATH.fullmatch(code)}
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_code_points_at_documents_that_exist() -> None:
    named = {
        name
        for folder in ("baskets", "basket_project", "tests")
        for file in (ROOT / folder).rglob("*.py")
        for name in re.findall(r"baskets/docs/[\w./-]+\.md", file.read_text())
    }
    assert named
    assert {name for name in named if not (ROOT / name).is_file()} == set()


def test_names_in_docstrings_and_comments_exist() -> None:
    named = {code for folder in ("baskets", "basket_project") for file in (ROOT / folder).rglob("*.py") for code in coded(file.read_text())}
    paths, dotted = ({code for code in named if pattern.fullmatch(code)} for pattern in (PATH, DOTTED))
    assert len(paths) > 10
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert len(dotted) > 10
    assert {name for name in dotted if not exists(name)} == set()


# --- The life cycle -----------------------------------------------------------


@pytest.mark.parametrize("path", [README, LIFECYCLE], ids=ids)
def test_each_arrow_of_the_pictures_names_its_function(path: Path) -> None:
    drawn = "".join(fenced(path, "text"))
    arrows = set(re.findall(r"(?<![A-Za-z])([A-Z])(?=:| -->| ---)", drawn))
    table = {row[0]: row for row in (line.strip("|").split("|") for line in prose(path).splitlines()) if re.fullmatch(r" [A-Z] ", row[0])}
    assert arrows == {letter.strip() for letter in table}
    for row in table.values():
        assert any(DOTTED.fullmatch(code) for code in coded("|".join(row))), row


def test_both_pictures_of_a_session_are_the_same() -> None:
    assert next(fenced(README, "text")) == next(fenced(LIFECYCLE, "text"))


def test_events_of_the_life_cycle_are_those_that_are_recorded() -> None:
    named = {code for row in rows(LIFECYCLE, "Arrow") for code in coded(row[2])}
    assert named == {kind for kind in Event.Kind.values if kind.startswith("checkout_")}


# --- The API ------------------------------------------------------------------


def test_the_call_of_the_readme_is_one_that_the_service_takes() -> None:
    (curl,) = (block for block in fenced(README, "sh") if block.startswith("curl"))
    words = shlex.split(curl)
    url = next(word for word in words if word.startswith("http"))
    assert resolve(re.sub(r"^http://[^/]+", "", url)).kwargs == {"user_id": "demo-anna"}
    assert FinishCheckoutRequest(data=json.loads(words[words.index("-d") + 1])).is_valid()
    assert "Content-Type: application/json" in words


def test_the_call_of_the_readme_is_the_one_that_the_demo_prints() -> None:
    (curl,) = (block.strip() for block in fenced(README, "sh") if block.startswith("curl"))
    source = (ROOT / "basket_project" / "launcher" / "demo.py").read_text()
    printed = next(node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.JoinedStr) and "finish-active" in ast.unparse(node))
    pattern = "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".+" for part in printed.values)
    assert re.fullmatch(pattern, curl)


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_answers_that_are_quoted_are_json(path: Path) -> None:
    for block in fenced(path, "json"):
        json.loads(block)


def test_every_kind_of_event_is_described_to_partners() -> None:
    described = [kind for row in rows(DOCS / "partners" / "events.md", "`kind`") for kind in coded(row[0])]
    assert sorted(described) == sorted(Event.Kind.values)


def test_the_versions_are_named() -> None:
    for path in (DOCS / "partners" / "conventions.md", DOCS / "changelog.md"):
        assert set(re.findall(r"`(20\d\d-\d\d-\d\d)`", path.read_text())) == SUPPORTED_VERSIONS


# --- Decisions and changes ----------------------------------------------------


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))
    for number, path in enumerate(ADRS, 1):
        assert path.read_text().startswith(f"# {number}. ")


@pytest.mark.parametrize("path", ADRS, ids=ids)
def test_a_decision_has_its_parts_on_one_page(path: Path) -> None:
    text = path.read_text()
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]
    assert re.search(r"^\*\*Status:\*\* accepted, 20\d\d-\d\d-\d\d", text, re.MULTILINE)
    assert len(text.split()) < 500


def test_the_index_lists_every_decision_by_its_title() -> None:
    listed = re.findall(r"^(\d+)\. \[(.+)\]\((.+)\)$", (DOCS / "adr" / "README.md").read_text(), re.MULTILINE)
    documented = [
        (number, title, name)
        for path in ADRS
        for number, title, name in [(*path.read_text().split("\n", 1)[0][2:].split(". ", 1), path.name)]
    ]
    assert listed == documented


def test_the_changelog_begins_with_what_is_unreleased_or_the_version_of_the_project() -> None:
    text = (DOCS / "changelog.md").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    first = re.findall(r"^## (.+)$", text, re.MULTILINE)[0]
    assert first == "[Unreleased]" or first.startswith(f"[{version}] - ")
    assert version in text


def test_the_words_of_the_glossary_are_in_order_and_unique() -> None:
    words = [row[0].strip("*").lower() for row in rows(DOCS / "glossary.md", "Word")]
    assert words == sorted(set(words))


# --- The self-assessment ------------------------------------------------------

# Levels 1 and 2 of ASVS 5.0.0: sections, and the numbers of their requirements.
REQUIREMENTS = """
1.1 1-2, 1.2 1-9, 1.3 1-11, 1.4 1-3, 1.5 1-2, 2.1 1-3, 2.2 1-3, 2.3 1-4, 2.4 1-1, 3.2 1-2, 3.3 1-4, 3.4 1-6, 3.5 1-5, 3.7 1-2,
4.1 1-3, 4.2 1-1, 4.3 1-2, 4.4 1-4, 5.1 1-1, 5.2 1-3, 5.3 1-2, 5.4 1-3, 6.1 1-3, 6.2 1-12, 6.3 1-4, 6.4 1-4, 6.5 1-5, 6.6 1-3,
6.8 1-4, 7.1 1-3, 7.2 1-4, 7.3 1-2, 7.4 1-5, 7.5 1-2, 7.6 1-2, 8.1 1-2, 8.2 1-3, 8.3 1-1, 8.4 1-1, 9.1 1-3, 9.2 1-4, 10.1 1-2,
10.2 1-2, 10.3 1-4, 10.4 1-11, 10.5 1-5, 10.6 1-2, 10.7 1-3, 11.1 1-2, 11.2 1-3, 11.3 1-3, 11.4 1-4, 11.5 1-1, 11.6 1-1, 12.1 1-3,
12.2 1-2, 12.3 1-4, 13.1 1-1, 13.2 1-5, 13.3 1-2, 13.4 1-5, 14.1 1-2, 14.2 1-4, 14.3 1-3, 15.1 1-3, 15.2 1-3, 15.3 1-7, 16.1 1-1,
16.2 1-5, 16.3 1-4, 16.4 1-3, 16.5 1-3, 17.1 1-1, 17.2 1-4, 17.3 1-2
"""


def requirements(cell: str) -> Iterator[str]:
    """The numbers in the first cell of a row, such as `1.2.6-1.2.8, 1.3.1`."""
    for part in cell.split(", "):
        first, _, last = part.partition("-")
        section, _, low = first.rpartition(".")
        for number in range(int(low), int((last or first).rpartition(".")[2]) + 1):
            yield f"{section}.{number}"


def test_each_requirement_is_assessed_once_and_what_is_not_met_is_explained() -> None:
    gaps, _, assessed = (DOCS / "asvs.md").read_text().partition("\n## The requirements\n")
    row = re.compile(r"^\| (\d[\d., -]*) \| [^|]+ \| ([^|]+) \|(?: [^|]+ \|)?$", re.MULTILINE)
    states = [(number, state) for cell, state in row.findall(assessed) for number in requirements(cell)]
    required = [
        f"{section}.{number}"
        for section, low, high in re.findall(r"([\d.]+) (\d+)-(\d+)", REQUIREMENTS)
        for number in range(int(low), int(high) + 1)
    ]
    assert len(required) == 253
    assert sorted(number for number, _ in states) == sorted(required)
    assert {state for _, state in states} == {"met", "operator", "not met", "n/a"}
    explained = {number for cell, _ in row.findall(gaps) for number in requirements(cell)}
    assert {number for number, state in states if state == "not met"} <= explained
    assert {dict(states)[number] for number in explained} == {"not met", "operator"}


def test_the_page_on_growth_names_every_table() -> None:
    named = set(coded((DOCS / "growth.md").read_text()))
    assert {model._meta.db_table for model in apps.get_app_config("baskets").get_models()} <= named
