"""Variables, dependencies and commands are documented as the code has them."""

import ast
import re
import shlex
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from importlib.metadata import requires as declared
from pathlib import Path

import pytest
from django.core.management import get_commands, load_command_class

from basket_project.launcher import command_line, run_verification
from basket_project.variables import REQUIRED_VARIABLES
from baskets.domain.maintenance.invariant_checker import BASKET_KEYS
from baskets.domain.maintenance.invariants import INVARIANTS
from tests.project.documents import DOCS, DOCUMENTS, OPERATIONS, README, ROOT, coded, fenced, ids, prose, rows

# --- Operations ---------------------------------------------------------------


def settings_variables() -> dict[str, ast.expr | None]:
    """What the settings read from the environment, with the default of each."""
    found: dict[str, ast.expr | None] = {}
    for node in ast.walk(ast.parse((ROOT / "basket_project" / "settings.py").read_text())):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.args[0], ast.Constant):
            continue
        if isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "env":
            defaults = [keyword.value for keyword in node.keywords if keyword.arg == "default"]
            found[str(node.args[0].value)] = defaults[0] if defaults else None
        elif ast.unparse(node.func) == "_reasons":  # It calls `env` with the name that it is given.
            found[str(node.args[0].value)] = node.args[1]
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
        if name in REQUIRED_VARIABLES:
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
    # The modules that these commands execute have their options.
    if module := {"serve": "basket_project/server.py", "bench": "tests/bench/__main__.py"}.get(name):
        options |= set(re.findall(r'add_argument\("(--[a-z-]+)"', (ROOT / module).read_text()))
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
    assert ["manage", "run_scheduler"] in list(commands_in(README))


def test_every_command_is_documented() -> None:
    commands = {name: load_command_class(owner, name) for name, owner in get_commands().items() if owner == "baskets"}
    ours = {name for name, command in commands.items() if not command.help.startswith("Deprecated")}
    documented = {code.split()[0] for code in re.findall(r"^- \*\*`([^`]+)`", prose(OPERATIONS), re.MULTILINE)}
    assert documented == ours
