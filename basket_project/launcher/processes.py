"""Identifies processes by id and start time, never by name, and ends process groups. Does not know their purpose."""

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "stat").exists()


@dataclass(frozen=True)
class _Row:
    pid: int
    group: int
    started: str
    zombie: bool


def _from_proc(pid: int) -> _Row | None:
    try:
        # The program's name is in parentheses and may contain spaces and parentheses.
        fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return _Row(pid=pid, group=int(fields[2]), started=f"{boot} {fields[19]}", zombie=fields[0] in "ZX")


def _from_ps(*which: str) -> list[_Row]:
    listing = subprocess.run(
        ["/bin/ps", *which, "-o", "pid=,pgid=,stat=,lstart="],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,  # It fails if there is no such process.
        env=os.environ | {"LC_ALL": "C", "TZ": "UTC"},
    ).stdout
    rows = []
    for line in listing.splitlines():
        pid, group, state, started = line.split(None, 3)
        rows.append(_Row(pid=int(pid), group=int(group), started=started.strip(), zombie=state.startswith("Z")))
    return rows


def _row(pid: int) -> _Row | None:
    if _HAS_PROC:
        return _from_proc(pid)
    return next(iter(_from_ps("-p", str(pid))), None)


def _rows() -> list[_Row]:
    if not _HAS_PROC:
        return _from_ps("-A")
    rows = (_from_proc(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit())
    return [row for row in rows if row]


def started_at(pid: int) -> str | None:
    """Return the start time of a running process as an opaque text for comparison; None if it does not run."""
    row = _row(pid)
    return row.started if row and not row.zombie else None


def group_members(group: int) -> list[int]:
    """Return the ids of the running processes of a process group."""
    return [row.pid for row in _rows() if row.group == group and not row.zombie]


def has_marker(pid: int, marker: str) -> bool:
    """Return whether a process has this text in its environment; True on systems that do not show environments."""
    if not _HAS_PROC:
        return True
    try:
        return marker.encode() in (_PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False


def has_working_directory(pid: int, folder: Path) -> bool:
    """Return whether a process has this working directory; a PostgreSQL server has its data folder."""
    if _HAS_PROC:
        try:
            return (_PROC / str(pid) / "cwd").samefile(folder)
        except PermissionError:
            # A container may forbid even root to read this of another account's process; compare owner and program instead.
            return _same_owner_and_program(pid, folder, "postgres")
        except OSError:
            return False
    command = subprocess.run(
        ["/bin/ps", "-p", str(pid), "-o", "command="],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=False,  # It fails if there is no such process.
    ).stdout
    return str(folder) in command


def _same_owner_and_program(pid: int, folder: Path, program: str) -> bool:
    try:
        named = (_PROC / str(pid) / "comm").read_text().strip() == program
        return named and (_PROC / str(pid)).stat().st_uid == folder.stat().st_uid
    except OSError:
        return False


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # It has ended already.
        os.killpg(group, number)


def terminate_group(group: int, *, grace_seconds: float) -> None:
    """End a process group by SIGTERM, then by SIGKILL. The caller guarantees that it started the group.

    :param grace_seconds: time between the two signals.
    """
    _signal_group(group, signal.SIGTERM)
    deadline = time.monotonic() + grace_seconds
    while group_members(group) and time.monotonic() < deadline:
        # A stopped process handles SIGTERM only after SIGCONT; repeat it, because a stop may take effect later.
        _signal_group(group, signal.SIGCONT)
        time.sleep(0.05)
    while group_members(group):
        _signal_group(group, signal.SIGKILL)
        time.sleep(0.05)
