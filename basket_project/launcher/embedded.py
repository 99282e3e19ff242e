"""Lends the embedded database of a data folder to the commands that need it: the first one starts it, the last one stops it."""

import contextlib
from collections.abc import Iterator

from basket_project.launcher.accounts import server_account
from basket_project.launcher.binaries import find_binaries
from basket_project.launcher.cluster import DURABLE, Cluster
from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.environment import print_progress
from basket_project.launcher.failure import ignore_stop_signals


def cluster_of(folder: DataFolder) -> Cluster:
    """Return the cluster of a data folder, whether it exists or not."""
    account = server_account()
    home = folder.database_home(account)
    return Cluster(
        home=home,
        binaries=find_binaries(account, home),
        account=account,
        password=folder.secret("database_password", 24),
        settings=DURABLE,
    )


@contextlib.contextmanager
def running_cluster(folder: DataFolder) -> Iterator[Cluster]:
    """Run the embedded server for the length of a block.

    Every user holds `server_lock` together with the others; who can have it alone at the end is the last, and stops the server.
    Starting and stopping happen under `change_lock`, so that nobody starts what another is about to stop. Both locks end with
    their process: a server left behind by a killed command is adopted by the next one, and then stopped by it.
    """
    with folder.change_lock.held():
        folder.server_lock.take(shared=True)
    cluster = cluster_of(folder)
    try:
        with folder.change_lock.held():
            if not cluster.is_running():
                print_progress("Starting PostgreSQL ..." if cluster.exists else "Making a PostgreSQL database and starting it ...")
            cluster.start()
        yield cluster
    finally:
        ignore_stop_signals()
        with folder.change_lock.held():
            if folder.server_lock.try_take():
                cluster.stop()
            folder.server_lock.release()
