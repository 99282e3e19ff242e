"""The documents are true: links, names, commands and quotes exist, and their tables are complete."""

import ast
import importlib
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import requires as declared
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class
from django.urls import resolve

from basket_project.launcher import command_line, run_verification
from baskets.api.protocol.versioning import SUPPORTED_VERSIONS
from baskets.api.serializers.requests import FinishCheckoutRequest
from baskets.domain.maintenance.invariant_checker import BASKET_KEYS
from baskets.domain.maintenance.invariants import INVARIANTS
from baskets.models import Event

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "baskets" / "docs"
ADRS = sorted((DOCS / "adr").glob("[0-9]*.md"))
README, LIFECYCLE, OPERATIONS = ROOT / "README.md", DOCS / "lifecycle.md", DOCS / "operations.md"
SECURITY = ROOT / ".github" / "SECURITY.md"
DOCUMENTS = [README, *sorted(DOCS.rglob("*.md")), SECURITY]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
DOTTED = re.compile(r"(?:baskets|basket_project)(?:\.[A-Za-z_]\w*)+")
# A path of ours: it begins with a folder of the repository, or is a file at its top.
PATH = re.compile(r"(?:(?:baskets|basket_project|tests|templates|\.requirements|\.ci)/[\w./-]*|manage\.py|pyproject\.toml)")


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def fenced(path: Path, *languages: str) -> Iterator[str]:
    return (content for language, content in FENCE.findall(path.read_text()) if language in languages)


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(path: Path, first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            next(lines)  # The line of dashes.
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    assert found, f"{ids(path)} has no table that begins with {first_heading}"
    return found


def coded(text: str) -> list[str]:
    return CODE.findall(text)


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


# --- Operations ---------------------------------------------------------------


def settings_variables() -> dict[str, ast.expr | None]:
    """What the settings read from the environment, with the default of each."""
    found = {}
    for node in ast.walk(ast.parse((ROOT / "basket_project" / "settings.py").read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "env":
            defaults = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
            found[ast.literal_eval(node.args[0])] = defaults[0] if defaults else None
    return found


def other_variables() -> set[str]:
    """Return the variables of ours that launcher, server and `manage.py` read."""
    files = [ROOT / "manage.py", *(path for path in (ROOT / "basket_project").rglob("*.py") if path.name != "settings.py")]
    name = re.compile(r"""["']((?:BASKETS|DJANGO|DATABASE)_[A-Z][A-Z_]*)["']""")
    return {found for file in files for found in name.findall(file.read_text())}


def test_the_table_of_variables_is_complete() -> None:
    table = {coded(row[0])[0]: row for row in rows(OPERATIONS, "Variable")}
    assert {name for name, row in table.items() if "settings" in row[2].replace("`", "").split(", ")} == settings_variables().keys()
    assert table.keys() == settings_variables().keys() | other_variables()


def test_the_table_of_variables_has_the_right_defaults() -> None:
    table = {coded(row[0])[0]: coded(row[1]) for row in rows(OPERATIONS, "Variable")}
    wrong = {}
    for name, node in settings_variables().items():
        if node is None or name == "DJANGO_SECRET_KEY":
            continue
        default = eval(compile(ast.Expression(node), name, "eval"), {})  # noqa: S307 (a constant of our own settings)
        shown = ",".join(default) if isinstance(default, list) else str(default)
        if table[name] != ([shown] if shown else []):
            wrong[name] = shown
    assert wrong == {}


def test_every_dependency_has_its_reason() -> None:
    listed = {
        (re.split(r"[<>=]", line)[0], file.stem)
        for file in (ROOT / ".requirements").glob("*.in")
        for line in file.read_text().splitlines()
        if line and not line.startswith(("-", "#"))
    }
    table = rows(OPERATIONS, "Package")
    assert {(coded(row[0])[0], row[1]) for row in table} == listed
    assert all(row[2] for row in table)


def direct_requirements() -> set[str]:
    """Return the packages listed by hand."""
    lines = [line for file in (ROOT / ".requirements").glob("*.in") for line in file.read_text().splitlines()]
    return {re.split(r"[<>=\[]", line)[0] for line in lines if line and not line.startswith(("-", "#"))}


def test_every_package_that_others_bring_along_has_its_reason() -> None:
    locked = {
        name for file in (ROOT / ".requirements").glob("*.lock") for name in re.findall(r"^([a-z0-9-]+)==", file.read_text(), re.MULTILINE)
    }
    table = rows(DOCS / "supply.md", "Package")
    assert [coded(row[0])[0] for row in table] == sorted(locked - direct_requirements())
    assert all(row[2] for row in table)


def needs(package: str) -> set[str]:
    """What a package says it needs, extras included; nothing where it is not installed here."""
    try:
        lines = declared(package) or []
    except PackageNotFoundError:
        return set()
    return {re.sub(r"[-_.]+", "-", name[0]).lower() for line in lines if (name := re.match(r"[\w.-]+", line))}


def test_the_named_packages_bring_the_others_along() -> None:
    wrong = {}
    for row in rows(DOCS / "supply.md", "Package"):
        for owner in coded(row[1]):
            if (needed := needs(owner)) and coded(row[0])[0] not in needed:
                wrong[coded(row[0])[0]] = owner
    assert wrong == {}


def test_each_proof_stands_beside_its_rule() -> None:
    documented = {
        slug: int(found[1]) for row in rows(DOCS / "rules.md", "Rule") if (found := re.match(r"\*\*(\d)", row[0])) for slug in coded(row[2])
    }
    assert documented == {proof.slug: proof.rule for proof in (*INVARIANTS, BASKET_KEYS)}


# --- Commands -----------------------------------------------------------------

OURS = re.compile(r"(?:.*(?:&& |\* ))?(?P<program>python3 -m basket_project|(?:\.venv/bin/python )?manage\.py) (?P<rest>[a-z].*)")


def commands_in(path: Path) -> Iterator[list[str]]:
    """The commands a document shows, without what stands before their names."""
    shown = [line for block in fenced(path, "sh", "text") for line in block.splitlines()]
    shown += coded(prose(path))
    for line in shown:
        if found := OURS.fullmatch(line):
            words = shlex.split(found["rest"])
            yield ["manage", *words] if "manage.py" in found["program"] else words


def options_of(words: list[str]) -> set[str]:
    """The options that a command understands; the name of a command that does not exist raises."""
    name, *rest = words
    if name == "manage" and rest[:1] not in ([], ["COMMAND"]):
        owner = get_commands()[rest[0]]
        parser = load_command_class(owner, rest[0]).create_parser("manage.py", rest[0])
        return {option for action in parser._actions for option in action.option_strings}
    parser = command_line._parser()
    commands = next(action.choices for action in parser._actions if action.dest == "command")
    assert commands is not None
    options = {option for action in commands[name]._actions for option in action.option_strings}
    if name == "prove":
        options |= {option for action in run_verification._parser()._actions for option in action.option_strings}
    if name == "serve":  # Its options are the server's.
        options |= set(re.findall(r'add_argument\("(--[a-z-]+)"', (ROOT / "basket_project" / "server.py").read_text()))
    return options


@pytest.mark.parametrize("path", DOCUMENTS, ids=ids)
def test_commands_that_are_shown_exist_with_their_options(path: Path) -> None:
    for words in commands_in(path):
        understood = options_of(words)
        if words[0] == "test":
            continue  # What follows is pytest's.
        assert {word for word in words if word.startswith("--")} <= understood, words


def test_the_commands_of_the_readme_can_be_typed_as_they_stand() -> None:
    for name, *rest in commands_in(README):
        if name == "manage" and rest:
            load_command_class(get_commands()[rest[0]], rest[0]).create_parser("manage.py", rest[0]).parse_args(rest[1:])
        elif name in ("demo", "setup"):
            command_line._parser().parse_args([name, *rest])


def test_the_two_commands_and_the_production_server_are_in_the_readme() -> None:
    names = [words[0] for words in commands_in(README)]
    assert {"demo", "test", "setup", "serve"} <= set(names)
    assert ["manage", "expire_baskets"] in list(commands_in(README))


def test_every_command_is_documented() -> None:
    commands = {name: load_command_class(owner, name) for name, owner in get_commands().items() if owner == "baskets"}
    ours = {name for name, command in commands.items() if not command.help.startswith("Deprecated")}
    documented = {code.split()[0] for code in re.findall(r"^- \*\*`([^`]+)`", prose(OPERATIONS), re.MULTILINE)}
    assert documented == ours


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
