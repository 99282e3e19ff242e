"""A dump and restore by `pg_dump` and `pg_restore`: the feed continues where it was, and reports positions that were lost."""

import os
import subprocess
from pathlib import Path

import pytest
from django.db import connection

from basket_project.launcher.binaries import _wheel_folder
from baskets.domain.events import feed
from baskets.domain.maintenance import invariant_checker
from baskets.models import Event, FeedPosition
from baskets.models.basket_snapshot import Owner
from tests.domain.scenarios import User
from tests.factories import PartnerFactory, ProductFactory

pytestmark = pytest.mark.django_db(transaction=True)


def program(name: str, *arguments: str) -> None:
    """Run a PostgreSQL program on the database of the test."""
    settings = connection.settings_dict
    where = ["-h", settings["HOST"], "-p", str(settings["PORT"]), "-U", settings["USER"]]
    folder = Path(os.environ["BASKETS_POSTGRES_BIN"]) if "BASKETS_POSTGRES_BIN" in os.environ else _wheel_folder()
    connection.close()
    done = subprocess.run(
        [str(folder / name), *where, *arguments],
        env=os.environ | {"PGPASSWORD": settings["PASSWORD"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def read_from(installation: feed.FeedCursor | None) -> tuple[list[int], feed.FeedCursor]:
    feed.assign_positions()
    page, installation = feed.read(FeedPosition.objects.all(), after=installation, limit=100)
    return [row.event_id for row in page], installation


def test_feed_survives_dump_and_restore(tmp_path: Path) -> None:
    ProductFactory(product_id="shirt", unsold=10)
    user = User(Owner(partner_id=PartnerFactory().pk, user_id="anna"))
    user.place("shirt", 1)
    user.place("shirt", 2)
    first, installation = read_from(None)
    user.place("shirt", 3)
    # At the time of the dump, one event has no position yet.
    dump, name = str(tmp_path / "dump"), connection.settings_dict["NAME"]
    program("pg_dump", "-Fc", "-f", dump, name)
    user.place("shirt", 4)
    later, lost = read_from(installation)
    assert len(later) == 2

    program("pg_restore", "--clean", "--if-exists", "--single-transaction", "-d", name, dump)
    with pytest.raises(feed.EventsRewound):
        read_from(lost)
    again, installation = read_from(installation)
    assert again == later[:1]
    user.place("shirt", 5)
    user.place("shirt", 6)
    # The same positions, and perhaps the same ids, now stand for other events. The old cursor is still recognized as lost.
    assert Event.objects.count() == 5
    with pytest.raises(feed.EventsRewound):
        read_from(lost)
    further, _ = read_from(installation)
    assert [*first, *again, *further] == list(Event.objects.order_by("number").values_list("pk", flat=True))
    for _ in range(3):
        feed.assign_positions()
    assert invariant_checker.check() == []
