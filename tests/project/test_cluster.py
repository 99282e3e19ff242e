"""A PostgreSQL server of our own: a dying one is taken for what it is."""

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest

from basket_project.launcher.cluster import NOT_DURABLE, Cluster
from basket_project.launcher.run_tests import temporary_cluster


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A server for this test alone."""
    with temporary_cluster(NOT_DURABLE) as started:
        yield started


def test_a_server_that_was_killed_this_instant_is_not_taken_for_live(cluster: Cluster) -> None:
    """For some milliseconds its process is still there, and its file says that it is ready."""
    for _ in range(10):
        os.kill(int((cluster.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)
        cluster.start(keep_port=True)
        psycopg.connect(cluster.url).close()
