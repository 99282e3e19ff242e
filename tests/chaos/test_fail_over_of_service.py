"""The real process server under load while its primary dies or hangs and the standby is promoted: no acknowledged call is lost."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from basket_project.launcher.cluster import Cluster
from tests.chaos.harness import Harness
from tests.chaos.replication import new_cluster, running_pair, writable_folder
from tests.chaos.test_release import assert_stored, buying
from tests.conftest import LongRun
from tests.waiting import eventually

pytestmark = pytest.mark.long


@pytest.fixture
def folder() -> Iterator[Path]:
    with writable_folder() as made:
        yield made


def prepared(folder: Path) -> tuple[Harness, Cluster]:
    """Make a stopped cluster with a shop, and the service for it."""
    with new_cluster(folder / "template") as template:
        harness = Harness(home=folder, cluster=template)
        harness.prepare()
        template.stop()
    return harness, template


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_service_follows_the_promotion_and_every_acknowledged_call_is_there(folder: Path, fault: signal.Signals, long_run: LongRun) -> None:
    harness, template = prepared(folder)
    pairs = folder / "pairs"
    pairs.mkdir()
    pairs.chmod(0o777)
    with running_pair(template, pairs, synchronous=True) as pair:
        harness.lead_to(pair.primary, pair.standby)
        harness.start_server()
        try:
            with buying(harness, seed=long_run.seed) as clients:
                assert eventually(lambda: sum(len(client.orders) for client in clients) > 30)
                pair.send_to_primary(fault)
                pair.promote()
                promoted = time.monotonic()
                before = sum(len(client.orders) for client in clients)
                assert eventually(lambda: sum(len(client.orders) for client in clients) > before), harness.log()
                back = time.monotonic() - promoted
                assert eventually(lambda: sum(len(client.orders) for client in clients) > before + 30)
            calls = sum((client.calls for client in clients), Counter[str]())
            orders = assert_stored(harness, clients, url=pair.standby.url)
            harness.lead_to(pair.standby)
            harness.manage("check_baskets")
        finally:
            harness.kill_server()
    # A hung server is left after 15 s; the callers of the clients have 20 s.
    assert back < (10 if fault == signal.SIGKILL else 35)
    long_run.record(fail_overs=1, calls_in_fail_overs=calls["calls"], orders_in_fail_overs=orders)
