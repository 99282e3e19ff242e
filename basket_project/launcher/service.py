"""The demo's web service as a process group: starts and stops it, and finds one left by a killed launcher. The same for its proxy."""

import contextlib
import http.client
import os
import secrets
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.environment import PROJECT, PYTHON
from basket_project.launcher.failure import Failure, last_lines
from basket_project.launcher.processes import group_members, has_marker, started_at, terminate_group

HOST = "127.0.0.1"
_MARKER = "BASKETS_STARTED_BY"
_STOP_SECONDS = 15
_START_SECONDS = 60


def stop_left_over(folder: DataFolder) -> bool:
    """Stop the service and the proxy that a killed launcher left on this data folder; returns whether there was one."""
    return sum(_stop_recorded(folder, kind.record) for kind in (Proxy, Service)) > 0


def _stop_recorded(folder: DataFolder, name: str) -> bool:
    """Stop the process group of this record, if it still runs.

    The recorded process id and start time identify it. If only its workers are left, their process group and the marker in their
    environment identify them; the system does not reuse the group's id while they live.
    """
    record = folder.read(name)
    if not record:
        return False
    group, marker = int(record["pid"]), str(record["marker"])
    now = started_at(group)
    is_ours = now == record["started"] if now else any(has_marker(pid, marker) for pid in group_members(group))
    if is_ours:
        terminate_group(group, grace_seconds=5)
    folder.remove(name)
    return is_ours


def left_over_url(folder: DataFolder) -> str | None:
    """Return the recorded URL of the proxy or the service of this data folder, or None."""
    url = folder.read(Proxy.record).get("url") or folder.read(Service.record).get("url")
    return str(url) if url else None


@dataclass
class Service:
    """The process server on one port, in its own process group."""

    record: ClassVar[str] = "service"
    ready_paths: ClassVar[tuple[str, ...]] = ("/livez", "/readyz")

    folder: DataFolder
    port: int
    variables: dict[str, str]
    _process: "subprocess.Popen[bytes] | None" = None
    _lifeline: int | None = None
    _marker: str = field(default_factory=lambda: secrets.token_hex(12))

    @property
    def url(self) -> str:
        """Return the URL of the service."""
        return f"http://{HOST}:{self.port}"

    def start(self) -> None:
        """Start the process and wait until it is ready.

        :raises Failure: it ends, or is not ready in time.
        """
        self._spawn()
        deadline = time.monotonic() + _START_SECONDS
        for path in self.ready_paths:
            while (status := self.status_of(path)) != 200:
                if self.has_ended() or time.monotonic() > deadline:
                    what = "ended at once" if self.has_ended() else f"answers {path} with {status or 'nothing'}"
                    log = self.folder.service_log
                    message = f"The {self.record} {what}; its log {log} ends with:\n{last_lines(log)}"
                    self.stop()
                    raise Failure(message)
                time.sleep(0.1)

    def restart(self) -> None:
        """Stop the remaining processes of a server that has ended, and start a new one."""
        self.stop()
        self._spawn()

    def _command(self, lifeline: int) -> list[str]:
        """Return the command, which must end when this file descriptor is at its end."""
        return [str(PYTHON), "-m", "basket_project.server", "--host", HOST, "--port", str(self.port), "--lifeline", str(lifeline)]

    def _spawn(self) -> None:
        # The process reads from this pipe and ends when the writing end, held by this process, closes.
        reading, self._lifeline = os.pipe()
        with self.folder.open_service_log() as log:
            self._process = subprocess.Popen(
                self._command(reading),
                cwd=PROJECT,
                env=self.variables | {_MARKER: self._marker},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[reading],
                # Ctrl-C must reach only the launcher, which stops the service before the database.
                process_group=0,
            )
        os.close(reading)
        pid = self._process.pid
        self.folder.write(self.record, {"pid": pid, "started": started_at(pid), "marker": self._marker, "url": self.url})

    def has_ended(self) -> bool:
        """Return whether the process server has ended."""
        return self._process is None or self._process.poll() is not None

    def status_of(self, path: str, headers: dict[str, str] | None = None) -> int | None:
        """Return the HTTP status of a GET; None if the service does not answer."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path, headers=headers or {})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop the process server gracefully, then kill its remaining workers."""
        if self._process is None:
            return
        self._process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_SECONDS)
        # Remaining processes have lost their supervisor or ignored the signal.
        terminate_group(self._process.pid, grace_seconds=0.5)
        self._process.wait()
        if self._lifeline is not None:
            os.close(self._lifeline)
        self._process, self._lifeline = None, None
        self.folder.remove(self.record)


# HAProxy watches no pipe, so a shell beside it does. The shell ends with HAProxy.
_PROXY_SCRIPT = """\
"$1" -db -f "$2" & proxy=$!
(read -r _ <&"$3"; kill "$proxy") 2>/dev/null &
wait "$proxy"
"""


@dataclass
class Proxy(Service):
    """HAProxy in front of the services of several cells.

    :param program: the path of HAProxy.
    :param config: its configuration.
    """

    record: ClassVar[str] = "proxy"
    ready_paths: ClassVar[tuple[str, ...]] = ("/livez",)

    program: Path = Path()
    config: Path = Path()

    def _command(self, lifeline: int) -> list[str]:
        return ["/bin/sh", "-c", _PROXY_SCRIPT, "proxy", str(self.program), str(self.config), str(lifeline)]
