"""Counts the instructions that the service executes for a call, in one process and without a network.

Other programs on the machine hardly change them, so they can be compared between commits. `perf stat` counts where the processor
lets it, else Valgrind's `callgrind`. Both attach to a process that has answered calls of the same kind before.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from baskets.management.load_client import Request
from tests.bench.parts import OPERATIONS

# Of each call: enough to load, compile and prepare all that the first ones need, and enough to count.
WARM_UP, COUNTED = 15, 30
ATTACH_SECONDS = 0.5


class Record(NamedTuple):
    """The instructions of a call when they were last recorded. `baskets/docs/costs.md` has those of earlier commits.

    :param counter: the program that counted them.
    :param python: the interpreter, as `sys.version`: each build executes other instructions.
    :param thousand: the instructions of each call, in thousands.
    """

    counter: str
    python: str
    thousand: dict[str, int]


def read_record() -> Record:
    """Read the record."""
    return Record(**json.loads(Path(__file__).with_name("costs.json").read_text()))


class Counter(Protocol):
    """A program that counts the instructions of a process.

    :ivar name: of the program.
    :ivar prefix: of the command that starts the process.
    """

    name: str
    prefix: Sequence[str]

    def __init__(self, folder: Path) -> None: ...

    def count(self, pid: int, work: Callable[[], None]) -> int:
        """Return the instructions in user mode that the process executes during the work; 0 where they cannot be counted."""


class Perf:
    """Counts by the counters of the processor."""

    name = "perf"
    prefix: Sequence[str] = ()

    def __init__(self, folder: Path) -> None:
        self._report = folder / "report"

    def count(self, pid: int, work: Callable[[], None]) -> int:
        """Count the instructions of a process during the work."""
        command = ["perf", "stat", "-x,", "-e", "instructions:u", "-o", str(self._report), "-p", str(pid)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as counting:
            time.sleep(ATTACH_SECONDS)
            work()
            counting.send_signal(signal.SIGINT)
        found = re.search(r"^(\d+),", self._report.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0


class Callgrind:
    """Counts on a simulated processor. The process runs 5 times as slowly, and 50 times as slowly while it is counted."""

    name = "valgrind"

    def __init__(self, folder: Path) -> None:
        self._reports = folder
        self.prefix = ("valgrind", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/report")

    def count(self, pid: int, work: Callable[[], None]) -> int:
        """Count the instructions of a process during the work."""
        self._command(pid, "instrumentation on")
        self._command(pid, "zero")
        work()
        self._command(pid, "dump")
        self._command(pid, "instrumentation off")
        latest = max(self._reports.glob("report.*"), key=lambda path: int(path.suffix[1:]))
        found = re.search(r"^totals: (\d+)", latest.read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def _command(self, pid: int, command: str) -> None:
        subprocess.run(["/usr/bin/env", "vgdb", f"--pid={pid}", *command.split()], check=True, capture_output=True)


def find_counter() -> type[Counter] | None:
    """Return the first program that counts on this machine; None where there is none."""
    with tempfile.TemporaryDirectory(prefix="baskets-count-") as folder:
        if shutil.which("perf") and Perf(Path(folder)).count(os.getpid(), lambda: None):
            return Perf
    return Callgrind if shutil.which("valgrind") and shutil.which("vgdb") else None


def count_instructions(counter: type[Counter], *, key: str, prepare: Callable[[str, int], Sequence[Request]]) -> dict[str, int]:
    """Count the instructions of the service for one call of each kind, on the database that the environment names.

    :param prepare: returns so many calls of a kind, each of which can be made once.
    """
    with tempfile.TemporaryDirectory(prefix="baskets-count-") as folder:
        counting = counter(Path(folder))
        with _service_process(counting.prefix) as service:

            def answer(calls: Sequence[Request]) -> None:
                given = {"key": key, "calls": [(call.method, call.path, call.body.decode()) for call in calls]}
                assert service.stdin
                assert service.stdout
                service.stdin.write(json.dumps(given) + "\n")
                service.stdin.flush()
                if not service.stdout.readline():
                    raise SystemExit("the counted process has ended; its log is above")

            def count(operation: str) -> int:
                calls = prepare(operation, COUNTED)
                return counting.count(service.pid, lambda: answer(calls)) // COUNTED

            for operation in OPERATIONS:
                answer(prepare(operation, WARM_UP))
            return {operation: count(operation) for operation in OPERATIONS}


@contextlib.contextmanager
def _service_process(prefix: Sequence[str]) -> "Iterator[subprocess.Popen[str]]":
    command = [*prefix, sys.executable, "-m", "tests.bench.one_process"]
    # One order of hashing, so that two runs do the same.
    variables = {**os.environ, "PYTHONHASHSEED": "0"}
    with subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        try:
            yield service
        finally:
            service.kill()
