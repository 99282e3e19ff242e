"""The demo as a user meets it: started, crashed in every way, started again, stopped; with a separate data folder and ports."""

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from basket_project.launcher.cluster import free_port
from basket_project.launcher.environment import ENVIRONMENT
from basket_project.launcher.processes import group_members, started_at
from tests.secrecy import secrets_in
from tests.waiting import eventually

PROJECT = Path(__file__).parents[2]

pytestmark = pytest.mark.skipif(
    Path(sys.prefix).resolve() != ENVIRONMENT.resolve(),
    reason="the demo would install a second environment; run the tests with `python3 -m basket_project test`",
)


@dataclass
class Demo:
    """Demos on one data folder, one after the other."""

    data: Path
    port: int
    options: tuple[str, ...] = ()
    running: "list[subprocess.Popen[str]]" = field(default_factory=list)

    def command(self, *arguments: str) -> "subprocess.Popen[str]":
        variables = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_URL", "DJANGO_"))}
        process = subprocess.Popen(
            [sys.executable, "-m", "basket_project", *arguments],
            cwd=PROJECT,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def start(self) -> "tuple[subprocess.Popen[str], dict[str, Any]]":
        process = self.command("demo", "--json", "--port", str(self.port), "--data-dir", str(self.data), *self.options)
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        return process, json.loads(line)

    def status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            try:
                connection.request("GET", path)
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return 0

    def get(self, path: str) -> "tuple[http.client.HTTPResponse, bytes]":
        """The response to a browser that takes every encoding."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept-Encoding": "gzip, br"})
            response = connection.getresponse()
            return response, response.read()

    def manage(self, *arguments: str, cell: int) -> "tuple[int, str]":
        """Run a management command in a cell; return its exit code and what it printed."""
        process = self.command("manage", "--data-dir", str(self.data / f"cell-{cell}"), *arguments)
        printed = "".join(process.communicate(timeout=120))
        return process.returncode, printed

    def service(self) -> int:
        return int(json.loads((self.data / "service.json").read_text())["pid"])

    def has_another_service(self, than: int) -> bool:
        """Tell whether another service is noted down; between the two there is no note."""
        with contextlib.suppress(FileNotFoundError):
            return self.service() != than
        return False

    def database(self) -> int:
        return int((self.data / "postgres" / "data" / "postmaster.pid").read_text().splitlines()[0])


@pytest.fixture
def demo() -> Iterator[Demo]:
    """A data folder that another account may pass through, unlike those of pytest, and the end of whatever was started on it."""
    data = Path(tempfile.mkdtemp(prefix="baskets-demo-test-"))
    data.chmod(0o755)
    used = Demo(data=data, port=free_port())
    try:
        yield used
    finally:
        for process in used.running:
            if process.poll() is None:
                process.terminate()
                process.wait(60)
            for stream in (process.stdout, process.stderr):
                if stream:
                    stream.close()
        logs = [path.read_text() for path in (data / "service.log", *data.glob("cell-*/service.log")) if path.exists()]
        shutil.rmtree(data)
        for log in logs if not used.options else logs[1:]:  # With cells, the first one is HAProxy's.
            assert secrets_in(log) == set()
            assert all(json.loads(line)["event"] for line in log.splitlines())


def test_a_demo_survives_crashes_and_ends_without_a_trace(demo: Demo) -> None:
    process, summary = demo.start()
    assert set(summary) >= {"url", "api_key", "admin_user", "admin_password", "database_url"}
    assert demo.status("/livez") == demo.status("/readyz") == 200
    first_service, database = demo.service(), demo.database()

    # Static files never change under their names, and travel compressed; the sign-in page travels uncompressed.
    page, body = demo.get("/admin/login/")
    assert page.headers["Content-Encoding"] is None
    scripts = re.findall(r'(?:href|src)="(/static/[^"]+)"', body.decode())
    assert len(scripts) > 3
    for address in scripts:
        response, _ = demo.get(address)
        assert re.search(r"\.[0-9a-f]{12}\.(css|js)$", address), address
        assert response.headers["Content-Encoding"] == "br", address
        assert response.headers["Cache-Control"] == "max-age=315360000, public, immutable", address
    assert demo.get("/schema")[0].headers["Content-Encoding"] == "gzip"

    second = demo.command("demo", "--port", str(free_port()), "--data-dir", str(demo.data))
    assert second.wait(60) == 1
    assert second.stderr is not None
    assert second.stderr.read() == f"A demo with the data folder {demo.data} is already running at {summary['url']}.\n"

    # The launcher is killed: its service ends by itself, its database is adopted by the next demo, with everything in it.
    process.kill()
    process.wait()
    assert eventually(lambda: not group_members(first_service))
    assert demo.database() == database
    process, again = demo.start()
    assert again == summary
    assert demo.database() == database

    # The database server is killed: it is brought back where it was.
    os.kill(database, signal.SIGKILL)
    assert eventually(lambda: demo.status("/readyz") == 503)
    assert demo.status("/livez") == 200
    assert eventually(lambda: demo.status("/readyz") == 200)
    database = demo.database()

    # The whole of the service is killed: it is brought back too.
    service = demo.service()
    os.killpg(service, signal.SIGKILL)
    assert eventually(lambda: demo.has_another_service(service) and demo.status("/readyz") == 200)
    service = demo.service()

    process.terminate()
    assert process.wait(60) == 0
    assert group_members(service) == []
    assert started_at(database) is None
    assert not (demo.data / "service.json").exists()


def test_a_management_command_starts_the_database_and_stops_it_again(demo: Demo) -> None:
    managed = demo.command("manage", "--data-dir", str(demo.data), "migrate", "--check")
    assert managed.wait(120) == 0
    assert not (demo.data / "postgres" / "data" / "postmaster.pid").exists()
    failed = demo.command("manage", "--data-dir", str(demo.data), "no_such_command")
    assert failed.wait(120) == 1
