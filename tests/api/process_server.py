"""The process server on the database of the test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from django.db import connection

from basket_project.launcher.cluster import free_port
from basket_project.launcher.processes import terminate_group
from tests.waiting import eventually

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class ProcessServer:
    """A running server."""

    port: int
    process: "subprocess.Popen[bytes]"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def process_server(*, threads: int) -> Iterator[ProcessServer]:
    """Run a server with one worker until the end of the block."""
    database, port = connection.settings_dict, free_port()
    url = f"postgres://{database['USER']}:{database['PASSWORD']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"
    command = [sys.executable, "-m", "basket_project.server", "--port", str(port), "--workers", "1", "--threads", str(threads)]
    with subprocess.Popen(
        command,
        cwd=PROJECT,
        env=os.environ | {"DATABASE_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    ) as process:
        try:
            assert eventually(lambda: _responds(port))
            yield ProcessServer(port, process)
        finally:
            terminate_group(process.pid, grace_seconds=15)


def _responds(port: int) -> bool:
    with closing(HTTPConnection("127.0.0.1", port, timeout=40)) as caller, suppress(OSError):
        caller.request("GET", "/livez")
        return caller.getresponse().status == 200
    return False
