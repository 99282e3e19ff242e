"""Three cells on three servers: one is killed while all sell, stock is moved and a key is revoked; then it comes back."""

import contextlib
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest
from django.db import connection, connections
from pytest_django import Settings

from basket_project.launcher.cluster import Cluster
from baskets.domain.access import api_keys, partners
from tests.cells import aliases, close, eventually, other_databases_allowed
from tests.chaos.replication import Pair, port_of
from tests.chaos.test_fail_over import folder, reach, template  # noqa: F401 (fixtures)
from tests.commands.conftest import Run, run  # noqa: F401 (a fixture)
from tests.factories import TESTER, ProductFactory
from tests.threads import beside

pytestmark = [pytest.mark.long, pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("fail_over")]
SUPPLIED = 3000
# A buyer that knows nothing of the service: a piece less, and a sale, in one statement.
BUY = """
WITH taken AS (
    UPDATE baskets_stock SET available = available - 1 WHERE product_id = 'shirt' AND available >= 1 RETURNING product_id
)
INSERT INTO baskets_stockreservation (basket_id, session_id, product_id, status, pieces, created_at, expires_at, ended_at)
SELECT gen_random_uuid(), nextval('baskets_checkoutsession_id_seq'), product_id, 'SOLD', 1, now(), now(), now() FROM taken RETURNING 1
"""
PIECES = """
SELECT (SELECT sum(available - shortfall)::int FROM baskets_stock WHERE product_id = 'shirt'),
       (SELECT count(*)::int FROM baskets_stockreservation WHERE product_id = 'shirt' AND status = 'SOLD')
"""


@pytest.fixture
def clusters(
    template: Cluster,  # noqa: F811
    folder: Path,  # noqa: F811
    reach: Callable[..., None],  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[list[Cluster]]:
    """Three servers with the tables of this release; the database of this process is that of the first cell."""
    made = [replace(template, home=folder / f"cell-{cell}") for cell in (1, 2, 3)]
    for cluster in made:
        cluster.home.mkdir()
        cluster.account.chown(cluster.home)
        shutil.copytree(template.data, cluster.data)
        cluster.account.chown_tree(cluster.data)
        cluster.data.chmod(0o700)
        cluster.start()
    reach(template.password, port_of(made[0]))
    settings.BASKETS_CELL_DATABASES = aliases(3)
    for alias, cluster in zip(aliases(3), made, strict=True):
        connections.settings[alias] = deepcopy(connection.settings_dict) | {"PORT": port_of(cluster)}
    with other_databases_allowed(monkeypatch):
        yield made
        close()
    for alias in aliases(3):
        del connections[alias], connections.settings[alias]
    for cluster in made:
        cluster.stop(fast=False)


@contextlib.contextmanager
def buyers(clusters: list[Cluster]) -> Iterator[list[int]]:
    """Buy in every cell until the block ends, and go on where a cell was away.

    :returns: the sales that each cell has acknowledged.
    """
    sold, stop = [0] * len(clusters), threading.Event()

    def buy(cell: int) -> None:
        while not stop.is_set():
            with contextlib.suppress(psycopg.Error), psycopg.connect(clusters[cell].url, autocommit=True, connect_timeout=2) as client:
                client.execute("SET session_replication_role = replica")
                while not stop.wait(0.01):
                    sold[cell] += client.execute(BUY).fetchone() is not None
            stop.wait(0.1)

    with beside(*(partial(buy, cell) for cell in range(len(clusters))), stop=stop.set):
        yield sold


def read(cluster: Cluster, statement: str) -> tuple[int, ...]:
    with psycopg.connect(cluster.url) as client:
        return client.execute(statement).fetchone() or ()


def is_revoked(cluster: Cluster) -> bool:
    return read(cluster, "SELECT count(*)::int FROM baskets_apikey WHERE revoked_at IS NOT NULL") == (1,)


def test_a_cell_is_killed_and_comes_back_while_others_sell_and_move(
    clusters: list[Cluster],
    run: Run,  # noqa: F811
    tmp_path: Path,
) -> None:
    partners.create_partner(name="acme", actor=TESTER)
    key, _ = api_keys.issue_api_key(partner_name="acme", actor=TESTER)
    assert run("replicate_catalog").code == 0
    catalog = tmp_path / "catalog.csv"
    catalog.write_text(f"product_id,name,brand,variant,main_product_id,price,currency,stock\nshirt,Shirt,,,,,,{SUPPLIED}\n")
    assert run("import_products", str(catalog), "--cells").code == 0

    with buyers(clusters) as sold:
        eventually(lambda: min(sold) > 5)
        for pid in Pair(clusters[2], clusters[2]).processes(clusters[2]):
            os.kill(pid, signal.SIGKILL)
        api_keys.revoke_api_key(prefix=key.prefix, reason="stolen", actor=TESTER)
        ProductFactory(product_id="poster")
        eventually(lambda: is_revoked(clusters[1]), seconds=5)
        assert run("move_stock", "shirt", "500", "--from", "1", "--to", "2").code == 0
        assert run("move_stock", "shirt", "5", "--from", "1", "--to", "3").code == 1
        assert run("rebalance_stock", "--json").data["cells"] == [1, 2]
        assert run("check_baskets", "--cells").code == 1
        before = sold[:2]
        eventually(lambda: sold[0] > before[0] and sold[1] > before[1])
        connections["cell_3"].close()
        clusters[2].start(keep_port=True)
        while_away = sold[2]
        eventually(lambda: is_revoked(clusters[2]), seconds=30)
        assert read(clusters[2], "SELECT available FROM baskets_stock WHERE product_id = 'poster'") == (0,)
        eventually(lambda: sold[2] > while_away)
        assert run("move_stock", "--resume").code == 0
        assert run("rebalance_stock", "--json").data["cells"] == [1, 2, 3]

    pieces = [read(cluster, PIECES) for cluster in clusters]
    assert sum(map(sum, pieces)) == SUPPLIED
    assert min(free for free, _ in pieces) >= 0
    # A sale whose acknowledgement was lost is stored all the same.
    assert all(stored in (acknowledged, acknowledged + 1) for (_, stored), acknowledged in zip(pieces, sold, strict=True))
    assert [finding["slug"] for finding in run("check_baskets", "--cells", "--json").data["findings"]] == []
