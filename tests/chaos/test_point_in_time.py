"""Point in time recovery as the page on high availability describes it: readers of the feed, webhooks and secrets afterwards."""

import http.client
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from basket_project.launcher.cluster import USER, Cluster
from tests.chaos.harness import PRODUCTS, Harness, running_harness
from tests.chaos.journal import ChaosClient
from tests.chaos.replication import port_of, writable_folder
from tests.conftest import LongRun
from tests.domain.events.receivers import Receiver, receiver
from tests.waiting import eventually

pytestmark = pytest.mark.long


@pytest.fixture
def archive() -> Iterator[Path]:
    with writable_folder() as folder:
        yield folder


def back_up(cluster: Cluster, folder: Path) -> Path:
    """Take a base backup."""
    with (cluster.data / "pg_hba.conf").open("a") as rules:
        rules.write("host replication all 127.0.0.1/32 scram-sha-256\n")
    with psycopg.connect(cluster.url, autocommit=True) as client:
        client.execute("SELECT pg_reload_conf()")
    source = f"host=127.0.0.1 port={port_of(cluster)} user={USER} password={cluster.password}"
    copied = cluster._run("pg_basebackup", "-D", str(folder / "base"), "-d", source, "-c", "fast", "-X", "stream", "--no-sync")
    assert copied.returncode == 0, copied.stdout
    return folder / "base"


def restore(cluster: Cluster, base: Path, archive: Path, moment: str) -> None:
    """Put the cluster back to a moment."""
    cluster.stop()
    shutil.rmtree(cluster.data)
    shutil.copytree(base, cluster.data)
    with (cluster.data / "postgresql.auto.conf").open("a") as settings:
        settings.write(f"restore_command = 'cp {archive}/%f %p'\nrecovery_target_time = '{moment}'\nrecovery_target_action = 'promote'\n")
    (cluster.data / "recovery.signal").touch()
    cluster.account.chown_tree(cluster.data)
    cluster.data.chmod(0o700)


def feed(harness: Harness, token: str = "") -> tuple[int, Any]:
    caller = http.client.HTTPConnection("127.0.0.1", harness.port, timeout=20)
    with closing(caller):
        path = f"/baskets/events?limit=200{f'&nextToken={quote(token)}' if token else ''}"
        caller.request("GET", path, headers={"X-API-Key": harness.key})
        response = caller.getresponse()
        return response.status, json.loads(response.read())


def order(app: ChaosClient, user: str) -> None:
    for method, path, body in (
        ("POST", f"/products/{PRODUCTS[1]}", {"count": 1}),
        ("POST", "/checkout/sessions", {}),
        ("POST", "/checkout/sessions/finish-active", {"ordered": True}),
    ):
        assert app.call(method, user, path, body)[0] == 200


def deliver(harness: Harness, hook: Receiver) -> list[str]:
    """Deliver all that is due; return the ids of the messages."""
    hook.calls.clear()
    harness.manage("deliver_webhooks", "--once")
    return sorted(hook.ids)


def test_a_moment_is_restored_and_everybody_learns_of_it(archive: Path, long_run: LongRun) -> None:
    archiving = {"archive_mode": "on", "archive_command": f"'cp %p {archive}/%f'"}
    with receiver() as hook, running_harness(**archiving) as harness:
        harness._variables["BASKETS_INTERNAL_ADDRESSES"] = "true"
        harness.manage("create_webhook", "Killed TV", hook.url, "--from-the-beginning")
        app = ChaosClient(harness, 0, Random(1))
        assert guest(harness) == 200  # Makes the signing key, which is stored encrypted.
        base = back_up(harness.cluster, archive)
        order(app, "before")
        kept = feed(harness)[1]["nextToken"]
        first = deliver(harness, hook)
        with harness.database() as client:
            (moment,) = client.execute("SELECT clock_timestamp()::text").fetchone() or ("",)
        time.sleep(0.1)
        order(app, "after")
        lost = feed(harness, kept)[1]["nextToken"]
        second = deliver(harness, hook)
        assert len(second) == 3
        with harness.database() as client:
            (segment,) = client.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone() or ("",)
            assert eventually((archive / segment).exists, 30)
        harness.kill_server()
        restore(harness.cluster, base, archive, moment)
        harness.restart_database()
        with harness.database() as client:
            assert eventually(lambda: client.execute("SELECT pg_is_in_recovery()").fetchone() == (False,), 60)
        harness.manage("migrate")
        harness.manage("check_baskets")
        harness.start_server()

        # The order before the moment is there, the one after it is not.
        assert app.call("GET", "before", "", None)[1]["data"]["checkout"] == []
        with harness.database() as client:
            assert client.execute("SELECT count(*) FROM baskets_checkoutsession").fetchone() == (1,)
        # Readers of the feed: a token from before goes on, a later one is refused.
        assert feed(harness, kept)[0] == 200
        status, refusal = feed(harness, lost)
        assert (status, refusal["error"]["details"]["reason"]) == (422, "events_rewound")
        # A webhook goes on where it was at that moment. What it delivers is new, under ids that were never used.
        assert deliver(harness, hook) in ([], first)
        order(app, "again")
        third = deliver(harness, hook)
        assert len(third) == 3
        assert not set(third) & set(first + second)

        # The keys of that time decrypt its secrets; without them the checks name the tables.
        assert guest(harness) == 200
        old, new = harness._variables["DJANGO_SECRET_KEY"], "another-" + "0123456789abcdef" * 4
        harness._variables["DJANGO_SECRET_KEY"] = new
        assert set(unreadable(harness)) == {"baskets_signingkey", "baskets_webhookendpoint"}
        harness._variables["DJANGO_SECRET_KEY_FALLBACKS"] = old
        assert unreadable(harness) == []
        harness.manage("reencrypt_secrets")
        del harness._variables["DJANGO_SECRET_KEY_FALLBACKS"]
        assert unreadable(harness) == []
        harness.manage("check_baskets")
        long_run.record(restored_moments=1)


def guest(harness: Harness) -> int:
    caller = http.client.HTTPConnection("127.0.0.1", harness.port, timeout=20)
    with closing(caller):
        caller.request("POST", "/baskets/guests", b"{}", {"X-API-Key": harness.key, "Content-Type": "application/json"})
        return caller.getresponse().status


def unreadable(harness: Harness) -> list[str]:
    """Return the tables that the checks name."""
    script = "from baskets.domain.maintenance.reencryption import unreadable_tables; print(*unreadable_tables())"
    return harness.manage("shell", "--no-imports", "--command", script).split()
