"""A real PgBouncer before the database of the tests: the programs that are on this machine, and how to run one."""

import functools
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from basket_project.launcher.accounts import server_account
from basket_project.launcher.cluster import free_port

FOLLOWS_STATEMENTS = (1, 21)


@functools.cache
def version_of(program: str) -> tuple[int, ...]:
    stated = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", stated.splitlines()[0])))


@functools.cache
def programs() -> list[str]:
    """Return the one that `BASKETS_PGBOUNCER` names, and the one of the system."""
    candidates = os.environ.get("BASKETS_PGBOUNCER"), shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    return [program for program in candidates if program]


@dataclass
class Pooler:
    """One PgBouncer, before one database.

    :param database: the server: `HOST`, `PORT`, `USER` and `PASSWORD` of Django's settings.
    :param settings: settings in addition to the common ones.
    """

    program: str
    folder: Path
    database: dict[str, Any]
    settings: dict[str, object]
    port: int = field(default_factory=free_port)
    _process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        server = " ".join(f"{name.lower()}={self.database[name]}" for name in ("HOST", "PORT", "USER", "PASSWORD"))
        common = {
            "listen_addr": "127.0.0.1",
            "listen_port": self.port,
            "unix_socket_dir": "",
            "auth_type": "any",
            "ignore_startup_parameters": "options",
            "server_login_retry": 1,
            "query_wait_timeout": 5,
            "default_pool_size": 3,
        }
        lines = ["[databases]", f"* = {server}", "[pgbouncer]", *(f"{name} = {value}" for name, value in (common | self.settings).items())]
        account, config, log = server_account(), self.folder / f"pgbouncer-{self.port}.ini", self.folder / "pgbouncer.log"
        config.write_text("\n".join(lines) + "\n")
        account.chown(config)
        with log.open("ab") as output:
            before = output.tell()
            self._process = subprocess.Popen([self.program, str(config)], stdout=output, stderr=output, **account.for_subprocess())
        deadline = time.monotonic() + 10
        while b"process up" not in log.read_bytes()[before:]:
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()
