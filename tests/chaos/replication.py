"""Two database clusters, a primary and its streaming standby, each of which can be killed, frozen or promoted."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg

from basket_project.launcher.accounts import server_account
from basket_project.launcher.binaries import find_binaries
from basket_project.launcher.cluster import DATABASE, NOT_DURABLE, USER, Cluster, new_password

# The disk's cache is not under test, the standby is.
SETTINGS = NOT_DURABLE | {"synchronous_commit": "on", "max_connections": "40"}


@contextmanager
def writable_folder() -> Iterator[Path]:
    """Make a temporary folder in which the server's account may write, too."""
    made = Path(tempfile.mkdtemp(prefix="baskets-chaos-"))
    made.chmod(0o777)
    yield made
    shutil.rmtree(made)


@contextmanager
def new_cluster(home: Path) -> Iterator[Cluster]:
    """Create an empty cluster, and run its server during a block."""
    account = server_account()
    home.mkdir()
    home.chmod(0o755)
    account.chown(home)
    cluster = Cluster(home=home, binaries=find_binaries(account, home), account=account, password=new_password(), settings=SETTINGS)
    cluster.start()
    with (cluster.data / "pg_hba.conf").open("a") as rules:
        rules.write("host replication all 127.0.0.1/32 scram-sha-256\n")
    try:
        yield cluster
    finally:
        cluster.stop(fast=False)


def port_of(cluster: Cluster) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(cluster.url)["port"])


@dataclass
class Pair:
    """A primary with a standby that follows it."""

    primary: Cluster
    standby: Cluster

    def processes(self, cluster: Cluster) -> list[int]:
        postmaster = int((cluster.data / "postmaster.pid").read_text().splitlines()[0])
        return [postmaster, *map(int, Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split())]

    def send_to_primary(self, number: signal.Signals) -> None:
        for pid in self.processes(self.primary):
            os.kill(pid, number)

    def stop_replication(self) -> None:
        """Let the standby fall behind: it follows no server until it is promoted."""
        with psycopg.connect(self.standby.url, autocommit=True) as client:
            client.execute("ALTER SYSTEM SET primary_conninfo = ''")
            client.execute("SELECT pg_reload_conf()")
            while client.execute("SELECT count(*) FROM pg_stat_wal_receiver").fetchone() != (0,):
                pass

    def promote(self) -> None:
        with psycopg.connect(self.standby.url, autocommit=True) as client:
            assert client.execute("SELECT pg_promote()").fetchone() == (True,)


@contextmanager
def running_pair(template: Cluster, home: Path, *, synchronous: bool) -> Iterator[Pair]:
    """Run a copy of a stopped cluster as a primary, and a standby of it."""
    account = template.account
    made = [replace(template, home=home / name) for name in ("primary", "standby")]
    for cluster in made:
        cluster.home.mkdir()
        account.chown(cluster.home)
    primary, standby = made
    shutil.copytree(template.data, primary.data)
    account.chown_tree(primary.data)
    primary.data.chmod(0o700)
    primary.start()
    try:
        source = f"host=127.0.0.1 port={port_of(primary)} user={USER} password={primary.password} application_name=standby"
        copied = standby._run("pg_basebackup", "-D", str(standby.data), "-d", source, "-c", "fast", "-X", "stream", "-R", "--no-sync")
        assert copied.returncode == 0, copied.stdout
        standby.start()
        with psycopg.connect(primary.url, autocommit=True) as client:
            if synchronous:
                client.execute("ALTER SYSTEM SET synchronous_standby_names = 'standby'")
                client.execute("SELECT pg_reload_conf()")
            state = "SELECT state, sync_state FROM pg_stat_replication"
            while client.execute(state).fetchall() != [("streaming", "sync" if synchronous else "async")]:
                pass
        yield Pair(primary, standby)
    finally:
        for cluster in made:
            for pid in Pair(*made).processes(cluster) if cluster.is_running() else ():
                os.kill(pid, signal.SIGCONT)
            cluster.stop(fast=False)


def database_options(*ports: object) -> dict[str, str]:
    """Return the settings of Django that list the servers at these ports."""
    return {"HOST": ",".join(["127.0.0.1"] * len(ports)), "PORT": ",".join(map(str, ports)), "NAME": DATABASE, "USER": USER}
