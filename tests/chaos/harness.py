"""A separate service for the kill program: database server and process server with their supervisors."""

import contextlib
import http.client
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

from basket_project.launcher.accounts import server_account
from basket_project.launcher.binaries import find_binaries
from basket_project.launcher.cluster import DURABLE, Cluster, free_port, new_password
from basket_project.launcher.processes import group_members, terminate_group
from tests.waiting import eventually

PROJECT = Path(__file__).parents[2]
PRODUCTS = [f"kill-{number}" for number in range(6)]
# One process for all commands, because each process takes a second to start.
SETUP_SCRIPT = f"""
from django.core.management import call_command
from baskets.domain.access import api_keys, partners
from baskets.domain.stock import catalog
from baskets.domain.actors import Actor
call_command("migrate", interactive=False, verbosity=0)
partners.create_partner(name="Killed TV", late_orders="accept", actor=Actor.system("kills"))
stock = {{name: 100_000 for name in {PRODUCTS}}} | {{"{PRODUCTS[0]}": 40}}
rows = [catalog.ProductRow(product_id=name, name=name, price=100, currency="EUR", stock=n) for name, n in stock.items()]
catalog.import_products(rows=rows, as_of=None, reason="to be killed for", actor=Actor.system("kills"))
print(api_keys.issue_api_key(partner_name="Killed TV", actor=Actor.system("kills"))[1])
"""


@dataclass
class Harness:
    """The service under test: starts, kills, restarts and inspects its processes.

    :param project: the folder of its program.
    """

    home: Path
    cluster: Cluster
    project: Path = PROJECT
    port: int = field(default_factory=free_port)
    key: str = ""
    _variables: dict[str, str] = field(default_factory=dict)
    _server: "subprocess.Popen[bytes] | None" = None

    # --- Starting and stopping ------------------------------------------------------

    def open(self) -> None:
        self.cluster.start()
        self.prepare()
        self.start_server()

    def prepare(self) -> None:
        """Make the tables, a partner with a key, and products."""
        self._variables = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "BASKETS_"))} | {
            "DATABASE_URL": self.cluster.url,
            "DJANGO_SECRET_KEY": f"kills-only-{new_password()}{new_password()}",
            "DJANGO_ALLOWED_HOSTS": "127.0.0.1",
        }
        # The script of that program, which may be another release.
        script = "from tests.chaos.harness import SETUP_SCRIPT; exec(SETUP_SCRIPT)"
        self.key = self.manage("shell", "--command", script).split()[-1]

    def lead_to(self, *clusters: Cluster) -> None:
        """Name the servers of the database, copies of the first one, for processes that start later."""
        first = urlsplit(clusters[0].url)
        hosts = ",".join(f"{urlsplit(cluster.url).hostname}:{urlsplit(cluster.url).port}" for cluster in clusters)
        self._variables["DATABASE_URL"] = f"postgres://{first.username}:{first.password}@{hosts}{first.path}"

    def reload_server(self) -> None:
        """Replace the workers by new ones, as a release does."""
        assert self._server is not None
        self._server.send_signal(signal.SIGHUP)

    def close(self) -> None:
        self.kill_server()
        self.cluster.stop(fast=False)

    def start_server(self) -> None:
        command = [sys.executable, "-m", "basket_project.server", "--port", str(self.port), "--workers", "2", "--threads", "4"]
        with (self.home / "service.log").open("ab") as log:
            self._server = subprocess.Popen(
                command, cwd=self.project, env=self._variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0
            )
        assert eventually(lambda: self.status("/livez") == 200), self.log()

    def kill_server(self) -> None:
        """Kill the process server with all its workers, as the kernel does when it is out of memory."""
        if self._server is None:
            return  # Its start failed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.wait()
        terminate_group(self._server.pid, grace_seconds=0)

    def restart_database(self) -> None:
        self.cluster.start(keep_port=True)

    # --- Inspecting -----------------------------------------------------------------

    def workers(self) -> list[int]:
        assert self._server is not None
        return sorted(set(group_members(self._server.pid)) - {self._server.pid})

    def postmaster(self) -> int:
        return int((self.cluster.data / "postmaster.pid").read_text().splitlines()[0])

    def database(self, *, retry_seconds: float = 30, url: str = "", **options: Any) -> "psycopg.Connection[Any]":
        """Connect to the database, or to that of the URL, retrying for `retry_seconds`."""
        deadline = time.monotonic() + retry_seconds
        while True:
            try:
                return psycopg.connect(url or self.cluster.url, autocommit=True, connect_timeout=5, application_name="kills", **options)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def backends(self) -> list[int]:
        """Return the process ids of the database backends of the service."""
        with self.database() as client:
            return [pid for (pid,) in client.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'baskets' ORDER BY pid")]

    def status(self, path: str) -> int:
        caller = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        with contextlib.closing(caller):
            try:
                caller.request("GET", path)
                return caller.getresponse().status
            except (OSError, http.client.HTTPException):
                return 0

    def manage(self, *arguments: str, project: Path | None = None) -> str:
        ended = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=project or self.project,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    def log(self) -> str:
        return (self.home / "service.log").read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def running_harness(home: Path | None = None, *, project: Path = PROJECT, **settings: str) -> Iterator[Harness]:
    """Run a service with a separate database cluster in a temporary folder below `home`."""
    account = server_account()
    made = Path(tempfile.mkdtemp(prefix="baskets-kills-", dir=home))
    made.chmod(0o755)
    database = made / "database"
    database.mkdir()
    account.chown(database)
    cluster = Cluster(
        home=database,
        binaries=find_binaries(account, database),
        account=account,
        password=new_password(),
        settings=DURABLE | {"restart_after_crash": "on"} | settings,
    )
    harness = Harness(home=made, cluster=cluster, project=project)
    try:
        harness.open()
        yield harness
    finally:
        harness.close()
        shutil.rmtree(made)
