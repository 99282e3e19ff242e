"""The database is down, full or out of connections: what the service answers, and that it recovers without manual steps."""

import contextlib
import os
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from baskets.api.admission import READINESS_SECONDS
from tests.chaos.harness import PRODUCTS, Harness, running_harness
from tests.chaos.journal import ChaosClient
from tests.conftest import LongRun
from tests.waiting import eventually

pytestmark = pytest.mark.long

PRODUCT = PRODUCTS[1]


def timed(app: ChaosClient, method: str, user: str, path: str, body: Any = None) -> tuple[int, float]:
    started = time.monotonic()
    status, _ = app.call(method, user, path, body)
    return status, time.monotonic() - started


def caller(harness: Harness) -> ChaosClient:
    return ChaosClient(harness, 0, Random(1))


def test_service_recovers_right_after_a_database_outage(long_run: LongRun) -> None:
    with running_harness() as harness:
        app = caller(harness)
        assert app.call("POST", "anna", f"/products/{PRODUCT}", {"count": 2})[0] == 200
        harness.cluster.stop()
        time.sleep(READINESS_SECONDS)  # An earlier check still answers `/readyz`.
        end = time.monotonic() + 30
        calls = []
        while time.monotonic() < end:
            calls.append(timed(app, "POST", "anna", f"/products/{PRODUCT}", {"count": 3}))
            assert harness.status("/livez") == 200
            assert harness.status("/readyz") == 503
            time.sleep(0.3)
        assert {status for status, _ in calls} == {503}
        assert max(seconds for _, seconds in calls) < 2
        harness.restart_database()
        back = time.monotonic()
        assert eventually(lambda: app.call("POST", "anna", f"/products/{PRODUCT}", {"count": 4})[0] == 200, 5)
        # No dead persistent connection is left.
        assert {app.call("POST", "anna", f"/products/{PRODUCT}", {"count": n})[0] for n in range(1, 40)} == {200}
        long_run.record(outages=1, calls_in_outages=len(calls), milliseconds_to_be_back=round(1000 * (time.monotonic() - back)))
        harness.manage("check_baskets")


def test_exhausted_connections_are_answered_with_503(long_run: LongRun) -> None:
    """Ten connections for eight threads of the service and nine other clients."""
    with running_harness(max_connections="10", superuser_reserved_connections="0") as harness:
        app = caller(harness)
        with contextlib.ExitStack() as taken:
            for _ in range(9):
                with contextlib.suppress(Exception):
                    taken.enter_context(harness.database(retry_seconds=0))
            calls = [timed(app, "POST", f"user-{n}", f"/products/{PRODUCT}", {"count": 1}) for n in range(20)]
            assert {status for status, _ in calls} <= {200, 503}
            assert 503 in {status for status, _ in calls}
            assert max(seconds for _, seconds in calls) < 2
        assert eventually(lambda: {app.call("GET", "anna", "", None)[0] for _ in range(20)} == {200}, 10)
        long_run.record(calls_without_connections=len(calls))
        harness.manage("check_baskets")


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A disk of 140 MB in memory."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small disk")
    disk = Path(tempfile.mkdtemp(prefix="baskets-small-disk-"))
    mounted = subprocess.run(
        ["/usr/bin/env", "mount", "-t", "tmpfs", "-o", "size=140m,mode=755", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        disk.rmdir()
        pytest.skip(f"this machine mounts no disk: {mounted.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["/usr/bin/env", "umount", "-l", str(disk)], check=True)
        disk.rmdir()


def test_full_disk_stops_writes_but_not_reads(small_disk: Path, long_run: LongRun) -> None:
    with running_harness(small_disk, max_wal_size="64MB", wal_recycle="off") as harness:
        app = caller(harness)
        known = {}
        assert app.call("POST", "anna", f"/products/{PRODUCT}", {"count": 2})[0] == 200
        filler = small_disk / "filler"
        with filler.open("wb") as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(65536))
                file.flush()
        statuses: Counter[int] = Counter()
        for number in range(3000):
            user = f"user-{number}"
            status, _ = app.call("POST", user, f"/products/{PRODUCT}", {"count": 1})
            statuses[status] += 1
            known[user] = status
            if statuses[503] >= 20:
                break
        assert set(statuses) == {200, 503}, statuses
        readable = Counter(app.call("GET", "anna", "", None)[0] for _ in range(10))
        filler.unlink()
        assert eventually(lambda: app.call("POST", "anna", f"/products/{PRODUCT}", {"count": 5})[0] == 200, 30)
        for user, status in known.items():
            basket = app.read_lists(user)
            assert [item["count"] for item in basket["cart"]] == ([1] if status == 200 else []), user
        harness.manage("check_baskets")
        assert readable == {200: 10}
        long_run.record(writes_to_a_full_disk=statuses[503])
