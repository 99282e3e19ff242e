"""The command line: help, wrong usage, missing requirements, and the arguments that commands pass on."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest

from basket_project.launcher import command_line, demo, environment, platforms, run_tests, run_verification
from basket_project.launcher.command_line import main
from basket_project.launcher.failure import Failure

PROJECT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _restored_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "raise_on_stop_signals", lambda: None)


@pytest.fixture
def recorded_installs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record what would be installed instead of installing it."""
    requested: list[list[str]] = []
    for module in (command_line, demo, run_tests):
        monkeypatch.setattr(module, "ensure_environment", lambda names: requested.append(list(names)))
    return requested


def shell(*arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "basket_project", *arguments],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_every_command() -> None:
    helped = shell("--help")
    assert helped.returncode == 0
    for command in ("demo", "test", "prove", "manage", "serve", "setup"):
        assert command in helped.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["dmeo"],
        ["demo", "--port", "0"],
        ["demo", "--port", "65536"],
        ["demo", "--port", "x"],
        ["demo", "extra"],
        ["manage"],
        ["prove", "all"],
        ["prove", "--seed", "x"],
    ],
)
def test_wrong_usage_ends_with_code_2(arguments: list[str]) -> None:
    answer = shell(*arguments)
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize("missing", ["DATABASE_URL", "DJANGO_SECRET_KEY"])
def test_serve_says_which_variable_is_missing(missing: str) -> None:
    given = {"DATABASE_URL": "postgres://127.0.0.1/x", "DJANGO_SECRET_KEY": "x"}
    del given[missing]
    answer = shell("serve", **given)
    assert answer.returncode == 1
    assert answer.stderr == f"{missing} is not set; `serve` takes its settings from the environment.\n"


@pytest.mark.parametrize("missing", ["DATABASE_URL", "DJANGO_SECRET_KEY"])
def test_manage_without_settings_says_in_one_line_which_variable_is_missing_and_how_to_reach_the_demo(missing: str) -> None:
    given = {"DATABASE_URL": "postgres://127.0.0.1/x", "DJANGO_SECRET_KEY": "x" * 50}
    del given[missing]
    answer = subprocess.run(
        [sys.executable, "manage.py", "check_baskets"],
        cwd=PROJECT,
        env={"PATH": os.environ["PATH"], **given},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (answer.returncode, answer.stdout, answer.stderr.count("\n")) == (1, "", 1)
    assert answer.stderr.startswith(f"ImproperlyConfigured: {missing} is not set: ")
    assert answer.stderr.endswith(" For the demo, run `python3 -m basket_project manage COMMAND`.\n")


@pytest.mark.parametrize(
    "command", ["migrate --no-input", "check --database default", "createsuperuser --no-input --username a --email a@b.c"]
)
def test_a_command_of_django_says_in_one_line_which_database_it_cannot_reach(command: str, listening_port: int) -> None:
    """The password stays secret. The port accepts connections, and answers none: the message of that error names no host."""
    url = f"postgres://owner:pass-word@127.0.0.1:{listening_port}/x"
    variables = {"PATH": os.environ["PATH"], "DATABASE_URL": url, "DJANGO_SECRET_KEY": "x" * 50, "DJANGO_SUPERUSER_PASSWORD": "y" * 20}
    ended = subprocess.run(
        [sys.executable, "manage.py", *command.split()],
        cwd=PROJECT,
        env=variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert ended.stderr.startswith(f"The database cannot be reached (host 127.0.0.1, port {listening_port}): ")
    assert "pass-word" not in ended.stderr


def test_a_folder_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    occupied = tmp_path / "file"
    occupied.touch()
    assert main(["demo", "--data-dir", str(occupied / "data")]) == 1
    assert capsys.readouterr().err == f"The data folder {occupied / 'data'} cannot be written to: Not a directory.\n"


def test_a_port_in_use_is_named(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    recorded_installs: list[list[str]],
    listening_port: int,
) -> None:
    assert main(["demo", "--port", str(listening_port), "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"Port {listening_port} is in use by another program; choose another one with --port.\n"
    assert recorded_installs == []


@pytest.mark.parametrize("module", ["venv", "ensurepip"])
def test_a_python_without_venv_gets_a_sentence(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> Any:
        return None if name == module else object()

    monkeypatch.setattr(environment.importlib.util, "find_spec", find)
    with pytest.raises(Failure, match=f"lacks its module {module}"):
        environment._create()


def test_a_linked_environment_is_not_emptied(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / ".venv"
    target.mkdir()
    (target / "kept.txt").write_text("kept")
    link.symlink_to(target)
    monkeypatch.setattr(environment, "ENVIRONMENT", link)
    monkeypatch.setattr(environment, "_RECORD", link / "kept.txt")
    with pytest.raises(Failure, match="is a symbolic link"):
        environment._ensure(["run"])
    assert (target / "kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    ("system", "library", "sentence"),
    [("linux", "cpython-311-x86_64-linux-musl", "needs glibc"), ("sunos5", "cpython-311-x86_64", "runs on Linux and macOS")],
)
def test_a_system_without_the_embedded_server_gets_a_sentence(
    system: str,
    library: str,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platforms.sys, "platform", system)
    monkeypatch.setattr(platforms.sysconfig, "get_config_var", lambda _: library)
    with pytest.raises(Failure, match=sentence):
        platforms.check_embedded_server_runs_here()


def test_a_python_that_is_too_old_can_still_read_the_sentence() -> None:
    source = (PROJECT / "basket_project" / "__main__.py").read_text()
    compile(source, "__main__.py", "exec", flags=0, dont_inherit=True)
    for newer in ("f'", 'f"', ":=", "->", "match ", "from __future__"):
        assert newer not in source


@pytest.mark.parametrize(
    ("arguments", "installed"),
    [([], ["run"]), (["run"], ["run"]), (["embedded", "test"], ["run", "embedded", "test"]), (["dev", "run"], ["run", "dev"])],
)
def test_setup_installs_what_serves_and_what_is_named(
    arguments: list[str], installed: list[str], recorded_installs: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = Mock()
    monkeypatch.setattr(command_line, "static_variables", collected)
    assert main(["setup", *arguments]) == 0
    assert recorded_installs == [installed]
    assert collected.call_count == 1


def test_setup_refuses_an_unknown_lock(recorded_installs: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["setup", "everything"])
    assert "'everything' is none of run, tracing, embedded, test, dev, migrations" in capsys.readouterr().err
    assert recorded_installs == []


def test_arguments_after_test_go_to_pytest_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest_run = Mock(return_value=5)
    monkeypatch.setattr(command_line, "run_tests", pytest_run)
    assert main(["test", "-k", "finish", "--json", "-x"]) == 5
    assert main(["test", "--", "--help"]) == 5
    assert pytest_run.call_args_list == [call(["-k", "finish", "--json", "-x"]), call(["--help"])]


def test_arguments_after_a_management_command_belong_to_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Mock(return_value=3)
    monkeypatch.setattr(command_line, "manage", run)
    assert main(["manage", "--data-dir", str(tmp_path), "expire_baskets", "--dry-run", "--json"]) == 3
    assert run.call_args_list == [call(tmp_path, ["expire_baskets", "--dry-run", "--json"])]


@pytest.mark.parametrize(
    ("arguments", "spread"),
    [
        ([], True),
        (["-q", "-x", "-k", "finish"], True),
        (["--cov"], True),
        (["tests/domain"], False),
        (["tests/domain/baskets/test_lists.py::test_x"], False),
        (["--pdb"], False),
        (["-n0"], False),
    ],
)
def test_the_whole_suite_is_parallel_options_and_a_part_is_not(arguments: list[str], spread: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_tests.os, "cpu_count", lambda: 2)
    assert bool(run_tests._parallel_options(arguments)) == spread
    monkeypatch.setattr(run_tests.os, "cpu_count", lambda: 1)
    assert run_tests._parallel_options(arguments) == []


def test_verification_prints_the_figures_of_its_parts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def held(plan: run_verification.RunOptions) -> int:
        assert plan.arguments(0.5)[:5] == ["-q", "--seed", "7", "--minutes", "5.00"]
        plan.figures.write_text('{"steps": 1200}\n{"steps": 34, "tests passed": 2}\n')
        return 0

    def lacking(plan: run_verification.RunOptions) -> int:
        raise run_verification.PartNotRun("this machine has none")

    monkeypatch.setattr(run_verification, "PARTS", {"model_based": held, "postgres": lacking, "chaos": Mock(return_value=3)})
    assert main(["prove", "--seed", "7", "--minutes", "10", "model", "postgres"]) == 0
    table = capsys.readouterr().out
    assert "| model_based | 1,234 steps, 2 tests passed | 0 s | held |" in table
    assert "| postgres | - | 0 s | not run: this machine has none |" in table
    assert main(["prove", "--seed", "7", "--minutes", "10"]) == 1
    assert "| chaos | - | 0 s | failed (code 3) |" in capsys.readouterr().out


def test_the_part_chooses_its_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Mock(return_value=0)
    monkeypatch.setattr(run_verification, "run_attached", run)
    plan = run_verification.RunOptions(seed=1, minutes=1, figures=tmp_path / "figures")
    monkeypatch.delenv("BASKETS_POSTGRES_BIN", raising=False)
    with pytest.raises(run_verification.PartNotRun):
        run_verification.PARTS["postgres"](plan)
    monkeypatch.setenv("BASKETS_POSTGRES_BIN", "/server/bin")
    assert run_verification.PARTS["postgres"](plan) == run_verification.PARTS["suite"](plan) == 0
    named = [call.args[1].get("BASKETS_POSTGRES_BIN") for call in run.call_args_list]
    assert named == ["/server/bin", None]
