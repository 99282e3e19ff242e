"""The demo's web service as a group of processes: started, noted down, watched, drained; and found again after a killed launcher."""

import contextlib
import http.client
import os
import secrets
import subprocess
import time
from dataclasses import dataclass, field

from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.environment import PROJECT, PYTHON
from basket_project.launcher.failure import Failure, last_lines
from basket_project.launcher.processes import end_group, group_members, has_marker, started_at

HOST = "127.0.0.1"
_NOTE = "service"
_MARKER = "BASKETS_STARTED_BY"
_STOP_SECONDS = 15
_START_SECONDS = 60


def stop_left_over(folder: DataFolder) -> bool:
    """End the service that a killed launcher left on this data folder; say whether there was one.

    It is known by the number noted down together with the moment of its start. When only its workers are left, they are known by
    the number of their group, which the system gives to nobody else while they live, and by the marker in their environment.
    """
    note = folder.read(_NOTE)
    if not note:
        return False
    group, marker = int(note["pid"]), str(note["marker"])
    now = started_at(group)
    mine = now == note["started"] if now else any(has_marker(pid, marker) for pid in group_members(group))
    if mine:
        end_group(group, grace_seconds=5)
    folder.remove(_NOTE)
    return mine


def left_over_url(folder: DataFolder) -> str | None:
    """Return the address that was noted down for the service of this data folder."""
    url = folder.read(_NOTE).get("url")
    return str(url) if url else None


@dataclass
class Service:
    """The process server on one port, in a process group of its own."""

    folder: DataFolder
    port: int
    variables: dict[str, str]
    _process: "subprocess.Popen[bytes] | None" = None
    _lifeline: int | None = None
    _marker: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def url(self) -> str:
        """Return the address of the service."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the process server and wait until it answers and is ready.

        :raises Failure: when it ends before it answers, or does not get ready in time.
        """
        self._spawn()
        deadline = time.monotonic() + _START_SECONDS
        for path in ("/livez", "/readyz"):
            while (status := self.status_of(path)) != 200:
                if self.has_ended() or time.monotonic() > deadline:
                    what = "ended at once" if self.has_ended() else f"answers {status or 'nothing'} on {path}"
                    message = f"The service {what}; its log {self.folder.service_log} ends with:\n{last_lines(self.folder.service_log)}"
                    self.stop()
                    raise Failure(message)
                time.sleep(0.1)

    def restart(self) -> None:
        """Put a new process server in the place of one that has ended, and end what is left of it first."""
        self.stop()
        self._spawn()

    def _spawn(self) -> None:
        # The server holds the reading end of this pipe and we the writing end: when we are gone, it ends by itself.
        reading, self._lifeline = os.pipe()
        command = [str(PYTHON), "-m", "basket_project.server", "--host", HOST, "--port", str(self.port), "--lifeline", str(reading)]
        with self.folder.open_service_log() as log:
            self._process = subprocess.Popen(
                command,
                cwd=PROJECT,
                env=self.variables | {_MARKER: self._marker},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[reading],
                # Ctrl-C is heard by the launcher alone, which stops service and database in their order.
                process_group=0,
            )
        os.close(reading)
        pid = self._process.pid
        self.folder.write(_NOTE, {"pid": pid, "started": started_at(pid), "marker": self._marker, "url": self.url})

    def has_ended(self) -> bool:
        """Tell whether the process server is gone."""
        return self._process is None or self._process.poll() is not None

    def status_of(self, path: str, headers: dict[str, str] | None = None) -> int | None:
        """Return the status with which the service answers; None if it does not."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path, headers=headers or {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        """Let requests in flight finish, then end the process server and its workers."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        # Whatever is left in the group has lost its master, or did not listen.
        end_group(self._process.pid, grace_seconds=0.5)
        self._process.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
        self._process, self._lifeline = None, None
        self.folder.remove(_NOTE)
