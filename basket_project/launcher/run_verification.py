"""The command `run_verification`: the long programme. Its parts are runs of `test`, each in figures; together they take an hour at most."""

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
from basket_project.launcher.management import run_attached

_MODULE = [sys.executable, "-m", "basket_project"]
# What a tree holds beside the project itself.
_NOT_COPIED = (".git", ".venv", ".data", ".hypothesis", "__pycache__", ".*_cache", "*.egg-info")
_PYTHON = re.compile(r"Python 3\.(\d+)\.")
# Folders whose long tests are a part of their own; all other long tests are the part `others`.
_FOLDERS = ("model", "races", "kills", "mutants")


class PartNotRun(Exception):
    """A part that this machine lacks something for; the sentence says what."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """What the command line says, and where the parts write their figures.

    :param minutes: for the whole programme; those parts that go on until told to stop share it by their weight.
    """

    seed: int
    minutes: float
    figures: Path

    def arguments(self, weight: float = 0) -> list[str]:
        """What a part hands to pytest beside its own."""
        return ["-q", "--seed", str(self.seed), "--minutes", f"{self.minutes * weight:.2f}", "--figures", str(self.figures)]


def run_verification(arguments: Sequence[str]) -> int:
    """Run the parts that are named, or all, and print what they did: 0 if all of it held, 1 if anything failed."""
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
            rows.append(f"| {name} | {_told(figures)} | {time.monotonic() - started:.0f} s | {outcome} |")
    table = ["| Part | Figures | Time | Outcome |", "| --- | --- | --- | --- |", *rows]
    sys.stdout.write("\n".join([f"Commit {_commit()}, seed {seed}.", "", *table]) + "\n")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m basket_project prove", description="Run the long programme of proofs, or the parts of it that are named."
    )
    parser.add_argument("--seed", type=int, help="make the choices that this number leads to (default: a new one, printed)")
    parser.add_argument("--minutes", type=float, default=55, help="time for all parts together, roughly (default: %(default)s)")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS), type=_part)
    return parser


def _part(text: str) -> str:
    if text not in PARTS:
        message = f"{text!r} is none of {', '.join(PARTS)}"
        raise argparse.ArgumentTypeError(message)
    return text


# --- The parts ------------------------------------------------------------------


def _run(arguments: Sequence[str], *, program: Sequence[str] = tuple(_MODULE), cwd: Path = PROJECT, server: str = "") -> int:
    """Run `test` in a process of its own; which server it takes is said by the part and not by the shell."""
    inherited = {name: value for name, value in shell_variables().items() if name != VARIABLE}
    return run_attached([*program, "test", *arguments], inherited | ({VARIABLE: server} if server else {}), cwd=cwd)


def _suite(plan: RunOptions) -> int:
    return _run(plan.arguments())


def _folder(name: str, weight: float) -> Callable[[RunOptions], int]:
    return lambda plan: _run(["-m", "long", f"tests/{name}", *plan.arguments(weight)])


def _others(plan: RunOptions) -> int:
    code = _run(["-m", "long", *(f"--ignore=tests/{name}" for name in _FOLDERS), *plan.arguments()])
    return 0 if code == 5 else code  # There is no such test.


def _postgres(plan: RunOptions) -> int:
    """Run the suite on the server that the shell names."""
    named = os.environ.get(VARIABLE)
    if not named:
        message = f"{VARIABLE} names no other PostgreSQL"
        raise PartNotRun(message)
    return _run(plan.arguments(), server=named)


def _python(plan: RunOptions) -> int:
    """Run the suite under the newest other Python there is, in a copy of the tree, because an environment belongs to its tree."""
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
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
        if said.returncode == 0 and _PYTHON.match(said.stdout):
            found[minor] = program
    if not found:
        message = "there is no other Python from 3.11 on in the PATH"
        raise PartNotRun(message)
    return found[max(found)]


# In the order of what they cost, so that what breaks soon is told soon.
PARTS: dict[str, Callable[[RunOptions], int]] = {
    "suite": _suite,
    "races": _folder("races", 0.08),
    "model": _folder("model", 0.18),
    "others": _others,
    "mutants": _folder("mutants", 0),
    "postgres": _postgres,
    "python": _python,
    "kills": _folder("kills", 0.18),
}


# --- What they did --------------------------------------------------------------


def _told(path: Path) -> str:
    """Add up what the tests of a part have written, by the word they gave it."""
    sums: dict[str, float] = {}
    if path.exists():
        for line in path.read_text().splitlines():
            for word, number in json.loads(line).items():
                sums[word] = sums.get(word, 0) + number
    return ", ".join(f"{number:,.0f} {word}" for word, number in sums.items()) or "-"


def _commit() -> str:
    """Name the commit that was measured, and say if the tree differs from it."""

    def git(*arguments: str) -> str:
        asked = subprocess.run(["/usr/bin/env", "git", *arguments], cwd=PROJECT, capture_output=True, text=True, check=False)
        return asked.stdout.strip() if asked.returncode == 0 else ""

    head = git("rev-parse", "--short", "HEAD")
    return (head + (" with changes" if git("status", "--porcelain") else "")) if head else "unknown"
