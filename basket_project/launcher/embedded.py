"""Shares the embedded database of a data folder between commands: the first one starts it, the last one stops it."""

import contextlib
from collections.abc import Iterator

from basket_project.launcher.accounts import server_account
from basket_project.launcher.binaries import find_binaries
from basket_project.launcher.cluster import DURABLE, Cluster
from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.environment import print_progress
from basket_project.launcher.failure import ignore_stop_signals


def cluster_of(folder: DataFolder) -> Cluster:
    """Return the cluster of a data folder, which may not exist yet."""
    account = server_account()
    home = folder.database_home(account)
    return Cluster(
        home=home,
        binaries=find_binaries(account, home),
        account=account,
        password=folder.secret("database_password", 24),
        # The first of several cells publishes what all of them share.
        settings=DURABLE | {"wal_level": "logical"} if folder.is_cell else DURABLE,
    )


@contextlib.contextmanager
def running_cluster(folder: DataFolder) -> Iterator[Cluster]:
    """Run the embedded server during a block.

    Every command holds a shared `server_lock`; a command that can make it exclusive at its end is the last one, and stops the
    server. Starting and stopping hold `change_lock`, so no command starts a server that another is about to stop. Both locks end
    with their process: the next command adopts a server left by a killed command, and stops it.
    """
    with folder.change_lock.held():
        folder.server_lock.acquire(shared=True)
    cluster = cluster_of(folder)
    try:
        with folder.change_lock.held():
            if not cluster.is_running():
                print_progress("Starting PostgreSQL ..." if cluster.exists else "Creating a PostgreSQL database and starting it ...")
            cluster.start()
        yield cluster
    finally:
        ignore_stop_signals()
        with folder.change_lock.held():
            if folder.server_lock.try_acquire():
                cluster.stop()
            folder.server_lock.release()
