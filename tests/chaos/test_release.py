"""A release under load: the tables of the next release beside the program of the one before, then its program. No call fails."""

import io
import shutil
import subprocess
import tarfile
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.chaos.harness import PROJECT, Harness, running_harness
from tests.chaos.journal import ChaosClient
from tests.conftest import LongRun
from tests.threads import beside
from tests.waiting import eventually

pytestmark = pytest.mark.long

PARTS = ("baskets", "basket_project", "templates", "tests", "manage.py")


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=PROJECT, capture_output=True, check=True).stdout  # noqa: S607 (the one of the PATH)


@pytest.fixture
def former() -> Iterator[Path]:
    """A folder with the program from before the last migration."""
    try:
        commit = git("log", "--max-count=1", "--diff-filter=A", "--format=%H^", "--", "baskets/migrations").decode().strip()
        packed = git("archive", commit, *PARTS)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("The program of the release before comes from git.")
    folder = Path(tempfile.mkdtemp(prefix="baskets-release-"))
    folder.chmod(0o755)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    yield folder
    shutil.rmtree(folder)


@contextmanager
def buying(harness: Harness, *, seed: int) -> Iterator[list[ChaosClient]]:
    """Let four clients buy during the block. Each checks every answer against what it knows."""
    clients, stop = [ChaosClient(harness, number, Random(seed + number)) for number in range(4)], threading.Event()
    with beside(*(partial(client.run, stop) for client in clients), stop=stop.set):
        yield clients


def assert_stored(harness: Harness, clients: list[ChaosClient], *, url: str) -> int:
    """Fail unless every order and every basket is as it was acknowledged.

    :returns: the number of orders.
    """
    orders = {order_no: status for client in clients for order_no, (_, status) in client.orders.items()}
    with harness.database(url=url) as database:
        rows = database.execute("SELECT order_no, status FROM baskets_checkoutsession WHERE order_no = ANY(%s)", [list(orders)])
        assert dict(rows.fetchall()) == orders
    for client in clients:
        for user, lists in client.known.items():
            assert client.read_lists(user) == lists, user
    return len(orders)


def install(release: Path, folder: Path) -> None:
    """Put a program in the place of another, part by part, as an installation in place does."""
    for part in PARTS:
        fresh, former = folder / f"{part}.fresh", folder / f"{part}.former"
        copy = shutil.copytree if (release / part).is_dir() else shutil.copy
        copy(release / part, fresh)
        (folder / part).rename(former)
        fresh.rename(folder / part)


def test_a_release_with_a_migration_fails_no_call(former: Path, long_run: LongRun) -> None:
    with running_harness(project=former) as harness:
        before = set(harness.workers())
        with buying(harness, seed=long_run.seed) as clients:
            # One after another, on both releases and between them.
            assert eventually(lambda: sum(len(client.orders) for client in clients) > 30)
            harness.manage("migrate", project=PROJECT)
            migrated = sum(len(client.orders) for client in clients)
            assert eventually(lambda: sum(len(client.orders) for client in clients) > migrated + 30)
            install(PROJECT, former)
            harness.reload_server()
            assert eventually(lambda: len(harness.workers()) == 2 and not before & set(harness.workers())), harness.log()
            replaced = sum(len(client.orders) for client in clients)
            assert eventually(lambda: sum(len(client.orders) for client in clients) > replaced + 30)
        calls = sum((client.calls for client in clients), Counter[str]())
        assert (calls["answered 503"], calls["unanswered"]) == (0, 0), calls
        assert "workers_not_replaced" not in harness.log()
        orders = assert_stored(harness, clients, url=harness.cluster.url)
        harness.manage("check_baskets")
        long_run.record(calls_during_releases=calls["calls"], orders_during_releases=orders, releases=1)
