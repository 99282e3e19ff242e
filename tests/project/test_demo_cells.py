"""Two cells behind the real HAProxy: calls reach their cell, one is killed while the other sells, and everything adds up over both."""

from pathlib import Path

from basket_project.launcher.processes import group_members, started_at
from tests.project.cells_under_load import (
    Buyers,
    Consumer,
    compare,
    database_servers,
    failed_connections,
    kill_cell,
    pieces,
    service_groups,
)
from tests.project.demo_client import PRODUCT, Client, free_ports, users_of
from tests.project.test_demo import Demo, demo, eventually, pytestmark  # noqa: F401 (a fixture, and its condition)
from tests.project.test_haproxy import require_haproxy

CELLS = 2


def check_that_calls_reach_their_cell(client: Client) -> None:
    one, two = (next(users_of(cell, cells=CELLS, name="shopper")) for cell in (1, 2))
    # The key is valid in both cells.
    for cell, user in ((1, one), (2, two)):
        assert client.buy(user)
        assert client.call("GET", f"/baskets/users/{user}", port=client.port + cell)[0] == 200
        status, refused = client.call("GET", f"/baskets/users/{user}", port=client.port + 3 - cell)
        assert (status, refused["error"]["details"]["reason"]) == (421, "wrong_cell")
    # A guest's id, and the token of a transfer, lead to their cell.
    for cell in (1, 2):
        guest = client.call("POST", "/baskets/guests", port=client.port + cell)[1]["data"]["userId"]
        assert client.call("GET", f"/baskets/users/{guest}")[0] == 200
    offered = client.call("POST", f"/baskets/users/{two}/transfer", {"url": "https://shop.example/"})[1]["data"]
    assert client.call("POST", f"/baskets/guests?jayToken={offered['jayToken']}")[1]["data"]["userId"] == two
    # Lists and the feed are those of one cell; product details are of any.
    assert client.call("GET", "/baskets/events")[0] == client.call("GET", "/baskets")[0] == 421
    products = client.call("POST", "/baskets/products/details", [PRODUCT])[1]["data"]["products"]
    assert 0 < products[0]["currentStockCount"] <= 500


def kill_second_cell(data: Path, client: Client, buyers: Buyers) -> None:
    """Kill the database and the service of one cell; the other sells on, and the killed one comes back."""
    assert eventually(lambda: min(buyers.numbers()) > 1)
    kill_cell(data, 2)
    sold = buyers.numbers()
    status, refused = client.call("GET", f"/baskets/users/{next(users_of(2, cells=CELLS))}")
    assert (status, refused["error"]["details"]["reason"]) in {(502, "outcome_unknown"), (503, "database_unavailable")}
    assert eventually(lambda: buyers.numbers()[0] > sold[0] + 2), "the other cell has stopped selling"
    assert eventually(lambda: buyers.numbers()[1] > sold[1] + 2), "the killed cell was not brought back"


def test_cells_sell_on_while_one_is_killed_and_add_up(demo: Demo) -> None:  # noqa: F811 (the fixture)
    require_haproxy()
    demo.options, demo.port = ("--cells", str(CELLS)), free_ports(CELLS + 1)
    process, summary = demo.start()
    databases = [cell["database_url"] for cell in summary["cells"]]
    client = Client(demo.port, summary["api_key"])
    check_that_calls_reach_their_cell(client)
    before = pieces(databases, [PRODUCT])
    consumer, buyers = Consumer(client, CELLS), Buyers(client, CELLS, [PRODUCT], pause=0.1)
    with consumer.following(), buyers.buying():
        kill_second_cell(demo.data, client, buyers)
        moved = demo.manage("move_stock", PRODUCT, "7", "--from", "1", "--to", "2", cell=1)
        assert moved[0] == 0, moved
    compare(databases, before, buyers, consumer)
    assert failed_connections(demo.data) == []

    groups, servers = service_groups(demo.data), database_servers(demo.data)
    process.terminate()
    assert process.wait(60) == 0
    assert (len(groups), len(servers)) == (1 + CELLS, CELLS)
    assert not any(map(group_members, groups))
    assert not any(map(started_at, servers))
