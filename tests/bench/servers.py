"""The service and the floor as they are served: the same process server, with the same number of processes and threads."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from basket_project.launcher.cluster import free_port

WORKERS, THREADS = 2, 4
START_SECONDS = 60


@contextlib.contextmanager
def service() -> Iterator[tuple[str, int]]:
    """Serve the service by the production command; yield its address and the number of its main process."""
    port = free_port()
    command = ["-m", "basket_project.server", "--port", str(port), "--workers", str(WORKERS), "--threads", str(THREADS)]
    with _run_server(command, f"http://127.0.0.1:{port}", probe="/readyz") as server:
        yield server


@contextlib.contextmanager
def floor() -> Iterator[tuple[str, int]]:
    """Serve the floor."""
    port = free_port()
    command = ["-m", "granian", "--interface", "wsgi", "--workers", str(WORKERS), "--blocking-threads", str(THREADS)]
    named = [*command, "--port", str(port), "--no-access-log", "--log-level", "critical", "tests.bench.floor:app"]
    with _run_server(named, f"http://127.0.0.1:{port}", probe="/finish/absent") as server:
        yield server


@contextlib.contextmanager
def _run_server(arguments: Sequence[str], url: str, *, probe: str) -> Iterator[tuple[str, int]]:
    with subprocess.Popen(
        [sys.executable, *arguments], env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        try:
            _wait_for(url + probe, process)
            yield url, process.pid
        finally:
            process.terminate()


def _wait_for(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        data = b"{}" if "finish" in url else None
        try:
            urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=5)  # noqa: S310 (our own address)
        except urllib.error.HTTPError as answered:
            if answered.code < 500:
                return
        except OSError:
            pass
        else:
            return
        time.sleep(0.1)
    message = f"nothing answers at {url}"
    raise SystemExit(message)


def workers_of(main: int) -> list[int]:
    """The numbers of the processes that a server has started; Linux only."""
    children = Path(f"/proc/{main}/task/{main}/children")
    return [int(pid) for pid in children.read_text().split()]


def processor_seconds(pids: Iterable[int]) -> float:
    """The processor time that processes have used, on Linux; those that have ended count nothing."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def database_seconds(a_server_process: int) -> float:
    """The processor time that a PostgreSQL server has used, on Linux: of all its processes, those that have ended included.

    :param a_server_process: the process of one connection.
    """
    fields = Path(f"/proc/{a_server_process}/stat").read_text().rpartition(")")[2].split()
    postmaster = int(fields[1])
    ended = Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[13:15]
    return processor_seconds([postmaster, *workers_of(postmaster)]) + sum(map(int, ended)) / os.sysconf("SC_CLK_TCK")


def resident_megabytes(pid: int) -> float:
    """The memory that a process has, on Linux."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
