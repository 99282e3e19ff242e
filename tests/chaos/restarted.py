"""Programs of a partner's back end that are started again whenever they are killed, as a supervisor does."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from basket_project.launcher.processes import terminate_group

MAX_SECONDS = 40
# What a program imports is there before the fork, so that a restart takes milliseconds.
SUPERVISOR = """
import http.server, os, pathlib, requests, sqlite3, sys, time, standardwebhooks
program, pid_file = compile(sys.argv[1], "program", "exec"), pathlib.Path(sys.argv[2])
while True:
    if (child := os.fork()) == 0:
        exec(program, {"__name__": "__main__"})
    pid_file.write_text(str(child))
    os.waitpid(child, 0)
    time.sleep(0.01)
"""


@dataclass
class Restarted:
    """A program that runs, or will run again within moments."""

    pid_file: Path
    kills: int = 0

    def kill(self) -> None:
        """Kill the process of this moment, if there is one."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(self.pid_file.read_text()), signal.SIGKILL)
            self.kills += 1


@contextmanager
def restarted(programs: Mapping[str, tuple[str, Mapping[str, str]]], folder: Path) -> Iterator[list[Restarted]]:
    """Run programs until the end of the block.

    :param programs: the code and the environment of each, by name.
    :param folder: for their files.
    """
    with ExitStack() as running:
        found = []
        for name, (code, variables) in programs.items():
            pid_file, log = folder / f"{name}.pid", running.enter_context((folder / f"{name}.log").open("wb"))
            command = [sys.executable, "-c", SUPERVISOR, code, str(pid_file)]
            process = running.enter_context(
                subprocess.Popen(command, env=dict(variables), stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
            )
            running.callback(terminate_group, process.pid, grace_seconds=0)
            found.append(Restarted(pid_file))
        yield found


def kill_at_random(programs: Sequence[Restarted], *, times: int, rng: random.Random) -> None:
    """Kill one program after the other, each some tens of milliseconds after the last, until each was killed so often."""
    deadline = time.monotonic() + MAX_SECONDS
    while min(program.kills for program in programs) < times:
        assert time.monotonic() < deadline
        time.sleep(rng.uniform(0.005, 0.08))
        rng.choice(programs).kill()
