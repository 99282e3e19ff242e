"""The command `test`: runs the test suite against a temporary PostgreSQL server."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from basket_project.launcher.accounts import server_account
from basket_project.launcher.binaries import find_binaries
from basket_project.launcher.cluster import NOT_DURABLE, Cluster, new_password
from basket_project.launcher.environment import PROJECT, PYTHON, ensure_environment, print_progress, shell_variables
from basket_project.launcher.failure import ignore_stop_signals
from basket_project.launcher.locking import FileLock
from basket_project.launcher.platforms import check_embedded_server_runs_here
from basket_project.launcher.programs import run_attached

_PREFIX = "baskets-test-"
_LOCK_NAME = "in-use.lock"
# Settings of the shell must not influence the tests, except for the choice of the server and of a pooler.
_KEPT_VARIABLES = ("DATABASE_URL", "BASKETS_POSTGRES_BIN", "BASKETS_PGBOUNCER")


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments and return its code."""
    database_url = os.environ.get("DATABASE_URL")
    if database_url:
        ensure_environment(["run", "tracing", "test"])
        return _run_pytest(arguments, database_url)
    check_embedded_server_runs_here()
    ensure_environment(["run", "tracing", "embedded", "test"])
    with temporary_cluster(NOT_DURABLE) as cluster:
        return _run_pytest(arguments, cluster.url)


def _run_pytest(arguments: Sequence[str], database_url: str) -> int:
    shell = shell_variables()
    variables = {name: value for name, value in shell.items() if name in _KEPT_VARIABLES or not name.startswith(("BASKETS_", "DJANGO_"))}
    variables |= {
        "DATABASE_URL": database_url,
        "DJANGO_SECRET_KEY": f"tests-only-{new_password()}{new_password()}",
        "DJANGO_SETTINGS_MODULE": "basket_project.settings",
    }
    return run_attached([str(PYTHON), "-m", "pytest", *_parallel_options(arguments), *arguments], variables)


def _parallel_options(arguments: Sequence[str]) -> list[str]:
    """Return options for two processes, each with its own database; for named files or interactive runs, no options.

    Two, because some concurrency tests use a hundred connections, and the server has 250.
    """
    single_process = {"-n", "--numprocesses", "--pdb", "--trace", "-s", "--collect-only", "--co"}
    for argument in arguments:
        if argument.partition("=")[0] in single_process or argument.startswith("-n"):
            return []
        if not argument.startswith("-") and (PROJECT / argument.partition("::")[0]).exists():
            return []
    return ["-n", "2", "--dist", "loadgroup"] if (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def temporary_cluster(settings: Mapping[str, str]) -> Iterator[Cluster]:
    """Run a temporary server during a block.

    :param settings: settings of `postgresql.conf`.
    """
    account = server_account()
    _remove_left_over()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # The held lock marks the folder as in use; once this process has ended, later runs may remove the folder. The file gets its name
    # only when the lock is held: a run that found it unlocked would remove the folder.
    lock = FileLock(home / "new.lock")
    lock.acquire()
    lock.path.rename(home / _LOCK_NAME)
    account.chown(home)
    cluster: Cluster | None = None
    try:
        print_progress("Starting a PostgreSQL for this run ...")
        binaries = find_binaries(account, home)
        cluster = Cluster(home=home, binaries=binaries, account=account, password=new_password(), settings=dict(settings))
        cluster.start()
        yield cluster
    finally:
        ignore_stop_signals()
        if cluster is not None:
            cluster.stop(fast=False)
        lock.release()
        shutil.rmtree(home)


def _remove_left_over() -> None:
    """Stop and remove the servers of earlier runs that were killed."""
    account = server_account()
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = FileLock(home / _LOCK_NAME)
        try:
            if home.stat().st_uid not in (account.user, os.geteuid()) or not lock.path.exists() or not lock.try_acquire():
                continue
        except PermissionError:
            continue  # Another user's run.
        print_progress("Removing the server of an earlier test run ...")
        binaries = find_binaries(account, home)
        Cluster(home=home, binaries=binaries, account=account, password="", settings=NOT_DURABLE).stop(fast=False)
        lock.release()
        shutil.rmtree(home)
