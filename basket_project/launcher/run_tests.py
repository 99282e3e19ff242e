"""The command `test`: the whole test suite, against a PostgreSQL server that exists for the run only."""

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
from basket_project.launcher.management import run_attached
from basket_project.launcher.platforms import check_embedded_server_runs_here

_PREFIX = "baskets-test-"
# Settings of the shell must not decide whether a test passes; which server runs the tests may be chosen.
_KEPT = ("DATABASE_URL", "BASKETS_POSTGRES_BIN")


def run_tests(arguments: Sequence[str]) -> int:
    """Run pytest with these arguments and return its code."""
    named = os.environ.get("DATABASE_URL")
    if named:
        ensure_environment(["run", "test"])
        return _run_pytest(arguments, named)
    check_embedded_server_runs_here()
    ensure_environment(["run", "embedded", "test"])
    with temporary_cluster(NOT_DURABLE) as cluster:
        return _run_pytest(arguments, cluster.url)


def _run_pytest(arguments: Sequence[str], database_url: str) -> int:
    shell = shell_variables()
    variables = {name: value for name, value in shell.items() if name in _KEPT or not name.startswith(("BASKETS_", "DJANGO_"))}
    variables |= {
        "DATABASE_URL": database_url,
        "DJANGO_SECRET_KEY": f"tests-only-{new_password()}{new_password()}",
        "DJANGO_SETTINGS_MODULE": "basket_project.settings",
    }
    return run_attached([str(PYTHON), "-m", "pytest", *_spread(arguments), *arguments], variables)


def _spread(arguments: Sequence[str]) -> list[str]:
    """Run the suite in two processes, each with a database of its own; what is named, or looked at by hand, runs in one.

    Two, because that is what the server's connections are enough for: some races are run by a hundred threads.
    """
    by_hand = {"-n", "--numprocesses", "--pdb", "--trace", "-s", "--collect-only", "--co"}
    for argument in arguments:
        if argument.partition("=")[0] in by_hand or argument.startswith("-n"):
            return []
        if not argument.startswith("-") and (PROJECT / argument.partition("::")[0]).exists():
            return []
    return ["-n", "2", "--dist", "loadgroup"] if (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def temporary_cluster(settings: Mapping[str, str]) -> Iterator[Cluster]:
    """Start a server for this run; stop and remove it at the end."""
    account = server_account()
    _clear_left_over()
    home = Path(tempfile.mkdtemp(prefix=_PREFIX))
    # The folder is ours as long as we hold this lock; it ends with us, and whoever finds the folder then may remove it.
    lock = FileLock(home / "in-use.lock")
    lock.take()
    account.give(home)
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


def _clear_left_over() -> None:
    """Stop and remove what an earlier run left when it was killed."""
    account = server_account()
    for home in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = FileLock(home / "in-use.lock")
        try:
            if home.stat().st_uid not in (account.user, os.geteuid()) or not lock.path.exists() or not lock.try_take():
                continue
        except PermissionError:
            continue  # Another user's run is none of our business.
        print_progress("Removing what an earlier test run left behind ...")
        binaries = find_binaries(account, home)
        Cluster(home=home, binaries=binaries, account=account, password="", settings=NOT_DURABLE).stop(fast=False)
        lock.release()
        shutil.rmtree(home)
