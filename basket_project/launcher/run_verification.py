"""The command `prove`: runs the long verification. Its parts are runs of `test`; together they take an hour at most."""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from basket_project.launcher.binaries import VARIABLE
from basket_project.launcher.environment import PROJECT, print_progress, shell_variables
from basket_project.launcher.programs import run_attached

_MODULE = [sys.executable, "-m", "basket_project"]
# Generated content of the project folder.
_NOT_COPIED = (".git", ".venv", ".data", ".hypothesis", "__pycache__", ".*_cache", "*.egg-info")
_PYTHON = re.compile(r"Python 3\.(\d+)\.")
# Folders whose long tests are a separate part; all other long tests are the part `others`.
_FOLDERS = ("model_based", "concurrency", "chaos", "mutation")
# Former names of parts, accepted for one release.
_FORMER_NAMES = {"races": "concurrency", "model": "model_based", "mutants": "mutation", "kills": "chaos"}


class PartNotRun(Exception):
    """A part cannot run on this machine; the message says why."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """The options of a run.

    :param seed: seed of all random choices.
    :param minutes: time for the whole programme; open-ended parts share it by their weight.
    :param figures: file to which the tests append their figures.
    """

    seed: int
    minutes: float
    figures: Path

    def arguments(self, weight: float = 0) -> list[str]:
        """Return the pytest arguments that all parts share.

        :param weight: the part's share of the minutes.
        """
        return ["-q", "--seed", str(self.seed), "--minutes", f"{self.minutes * weight:.2f}", "--figures", str(self.figures)]


def run_verification(arguments: Sequence[str]) -> int:
    """Run the named parts, or all, and print a table of their figures.

    :returns: 0 if all parts passed, else 1.
    """
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else int.from_bytes(os.urandom(4))
    print_progress(f"The seed is {seed}: `prove --seed {seed}` makes the same choices.")
    rows, failed = [], []
    with tempfile.TemporaryDirectory(prefix="baskets-prove-") as folder:
        for name in options.parts or PARTS:
            figures = Path(folder) / f"{name}.figures"
            started = time.monotonic()
            print_progress(f"\n== {name}")
            try:
                code = PARTS[name](RunOptions(seed=seed, minutes=options.minutes, figures=figures))
            except PartNotRun as missing:
                outcome = f"not run: {missing}"
            else:
                outcome = "held" if code == 0 else f"failed (code {code})"
                failed += [name] if code else []
            rows.append(f"| {name} | {_summarize(figures)} | {time.monotonic() - started:.0f} s | {outcome} |")
    table = ["| Part | Figures | Time | Outcome |", "| --- | --- | --- | --- |", *rows]
    sys.stdout.write("\n".join([f"Commit {_commit()}, seed {seed}.", "", *table]) + "\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m basket_project prove", description="Run the long verification, or the named parts of it."
    )
    parser.add_argument("--seed", type=int, help="seed of the random choices (default: a new one, printed)")
    parser.add_argument("--minutes", type=float, default=55, help="approximate time for all parts together (default: %(default)s)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS), type=_part)
    return parser


def _part(text: str) -> str:
    if text in _FORMER_NAMES:
        print_progress(f"The part `{text}` is now called `{_FORMER_NAMES[text]}`; the next release drops the old name.")
        return _FORMER_NAMES[text]
    if text not in PARTS:
        message = f"{text!r} is not one of {', '.join(PARTS)}"
        raise argparse.ArgumentTypeError(message)
    return text


# --- The parts ------------------------------------------------------------------


def _run(arguments: Sequence[str], *, program: Sequence[str] = tuple(_MODULE), cwd: Path = PROJECT, server: str = "") -> int:
    """Run `test` in a separate process; the part, not the shell, chooses its PostgreSQL server."""
    inherited = {name: value for name, value in shell_variables().items() if name != VARIABLE}
    return run_attached([*program, "test", *arguments], inherited | ({VARIABLE: server} if server else {}), cwd=cwd)


def _suite(plan: RunOptions) -> int:
    return _run(plan.arguments())


def _folder(name: str, weight: float) -> Callable[[RunOptions], int]:
    return lambda plan: _run(["-m", "long", f"tests/{name}", *plan.arguments(weight)])


def _others(plan: RunOptions) -> int:
    code = _run(["-m", "long", *(f"--ignore=tests/{name}" for name in _FOLDERS), *plan.arguments()])
    return 0 if code == 5 else code  # No test was collected.


def _postgres(plan: RunOptions) -> int:
    """Run the suite on the server that the shell names.

    :raises PartNotRun: the shell names none.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise PartNotRun(f"{VARIABLE} names no other PostgreSQL")
    return _run(plan.arguments(), server=named)


def _python(plan: RunOptions) -> int:
    """Run the suite under the newest other Python, in a copy of the project, because `.venv` belongs to one Python.

    :raises PartNotRun: there is no other Python.
    """
    program = _other_python()
    print_progress(f"With {program} ...")
    with tempfile.TemporaryDirectory(prefix="baskets-prove-") as folder:
        copy = Path(folder) / "project"
        shutil.copytree(PROJECT, copy, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)
        return _run(plan.arguments(), program=[program, "-m", "basket_project"], cwd=copy)


def _other_python() -> str:
    found = {}
    for minor in range(11, 30):
        program = shutil.which(f"python3.{minor}")
        if program is None or minor == sys.version_info.minor:
            continue
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if version.returncode == 0 and _PYTHON.match(version.stdout):
            found[minor] = program
    if not found:
        raise PartNotRun("there is no other Python from 3.11 on in the PATH")
    return found[max(found)]


# Cheap parts come first, so that they fail first.
PARTS: dict[str, Callable[[RunOptions], int]] = {
    "suite": _suite,
    "concurrency": _folder("concurrency", 0.08),
    "model_based": _folder("model_based", 0.18),
    "others": _others,
    "mutation": _folder("mutation", 0),
    "postgres": _postgres,
    "python": _python,
    "chaos": _folder("chaos", 0.18),
}


# --- Figures -------------------------------------------------------------------


def _summarize(path: Path) -> str:
    """Return the sums of the figures that the tests of a part have written, by name."""
    sums: dict[str, float] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            for name, number in json.loads(line).items():
                sums[name] = sums.get(name, 0) + number
    return ", ".join(f"{number:,.0f} {name}" for name, number in sums.items()) or "-"


def _commit() -> str:
    """Return the current commit, and whether the tree has changes."""

    def git(*arguments: str) -> str:
        process = subprocess.run(["/usr/bin/env", "git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
        return process.stdout.strip() if process.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return (head + (" with changes" if git("status", "--porcelain") else "")) if head else "unknown"
