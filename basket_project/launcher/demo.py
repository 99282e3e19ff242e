"""The command `demo`: starts database and service on a data folder, prints how to use them, restarts them if they die, and stops them."""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basket_project.launcher.cluster import Cluster, port_is_free
from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.embedded import running_cluster
from basket_project.launcher.environment import ensure_environment, print_progress
from basket_project.launcher.failure import Failure, StopRequested, ignore_stop_signals, os_error_text
from basket_project.launcher.platforms import check_embedded_server_runs_here
from basket_project.launcher.programs import run_quietly, service_variables
from basket_project.launcher.service import Service, left_over_url, stop_left_over
from basket_project.launcher.static_files import static_variables

_POLL_SECONDS = 0.5
_SERVICE_ROLE = "baskets_service"
# The options of `load_demo` that issue a secret again.
_OPTION_BY_SECRET = {"api_key": "--new-api-key", "test_api_key": "--new-test-api-key", "admin_password": "--new-admin-password"}
# A crashed database server is restarted soon. A server that was shut down was stopped on purpose, so the restart comes later.
_RESTART_AFTER_CRASH_SECONDS = 2
_RESTART_AFTER_STOP_SECONDS = 60
# A service that ends repeatedly is broken; endless restarts would hide that.
_MAX_RESTARTS = 5
_RESTARTS_WITHIN_SECONDS = 60


@dataclass(frozen=True)
class DemoOptions:
    """The options of the command line."""

    port: int
    data: Path
    as_json: bool


def demo(options: DemoOptions) -> int:
    """Run the demo until a signal ends it.

    :returns: the exit code.
    :raises Failure: a demo runs on this folder already, the port is in use, or a part does not start.
    """
    folder = DataFolder(options.data)
    folder.make()
    if not folder.demo_lock.try_acquire():
        where = left_over_url(folder)
        raise Failure(f"A demo with the data folder {folder.path} is already running{f' at {where}' if where else ''}.")
    try:
        if stop_left_over(folder):
            print_progress("Stopped the service of an earlier demo.")
        _check_port(options.port)
        with _database(folder) as (database_url, cluster):
            _serve(options, folder, database_url, cluster)
    except StopRequested:
        print_progress("Stopped.")
    return 0


def _check_port(port: int) -> None:
    try:
        free = port_is_free(port)
    except OSError as error:
        raise Failure(f"Port {port} cannot be used: {os_error_text(error)}; choose another one with --port.") from error
    if not free:
        raise Failure(f"Port {port} is in use by another program; choose another one with --port.")


@contextlib.contextmanager
def _database(folder: DataFolder) -> Iterator[tuple[str, Cluster | None]]:
    """Yield the URL of the database, and the embedded server, or None if DATABASE_URL names another server."""
    named = os.environ.get("DATABASE_URL")
    if named:
        ensure_environment(["run"])
        yield named, None
    else:
        check_embedded_server_runs_here()
        ensure_environment(["run", "embedded"])
        with running_cluster(folder) as cluster:
            yield cluster.url, cluster


def _serve(options: DemoOptions, folder: DataFolder, database_url: str, cluster: Cluster | None) -> None:
    secret_key = os.environ.get("DJANGO_SECRET_KEY") or folder.secret("django_secret_key")
    variables = service_variables(database_url=database_url, secret_key=secret_key) | static_variables()
    print_progress("Migrating the database ...")
    run_quietly(["migrate", "--no-input"], variables)
    print_progress("Loading the demo data ...")
    access = _load_demo(folder, database_url, variables)
    if cluster is not None:
        # The owner of the tables migrates; the service has a role that cannot change them.
        password = folder.secret("service_role_password", 24)
        run_quietly(["create_service_role", _SERVICE_ROLE], variables, stdin=password)
        variables |= {"DATABASE_URL": cluster.url_of(_SERVICE_ROLE, password)}
    service = Service(folder, options.port, variables)
    try:
        print_progress("Starting the service ...")
        service.start()
        for name in ("api_key", "test_api_key"):
            if service.status_of("/baskets/users/demo", {"X-API-Key": access[name]}) == 401:
                # The stored key was revoked or has expired; the demo must print a valid one.
                access = _load_demo(folder, database_url, variables, _OPTION_BY_SECRET[name])
        _announce(options, folder, service, database_url, access)
        _watch(service, cluster)
    finally:
        ignore_stop_signals()
        print_progress("Stopping ...")
        service.stop()


def _load_demo(folder: DataFolder, database_url: str, variables: dict[str, str], *more: str) -> dict[str, Any]:
    """Load the demo data.

    :param more: further options of `load_demo`.
    :returns: API key, user id and admin account. `load_demo` prints secrets once; the data folder stores them.
    """
    database = hashlib.sha256(database_url.rpartition("@")[2].encode()).hexdigest()
    if not os.environ.get("DATABASE_URL"):
        database = "embedded"
    stored = folder.read("access").get(database, {})
    loaded = _run_load_demo(variables, *more)
    missing = [option for name, option in _OPTION_BY_SECRET.items() if not loaded.get(name) and not stored.get(name)]
    if missing:
        loaded |= {name: value for name, value in _run_load_demo(variables, *missing).items() if value}
    access = stored | {name: value for name, value in loaded.items() if value}
    if access != stored:
        folder.write("access", folder.read("access") | {database: access})
    return dict(access)


def _run_load_demo(variables: dict[str, str], *more: str) -> dict[str, Any]:
    output = run_quietly(["load_demo", "--json", *more], variables)
    lines = [line for line in output.splitlines() if line.startswith("{")]
    if not lines:
        raise Failure("`manage.py load_demo --json` printed no line of JSON.")
    loaded: dict[str, Any] = json.loads(lines[-1])
    return loaded


def _announce(options: DemoOptions, folder: DataFolder, service: Service, database_url: str, access: dict[str, Any]) -> None:
    finish = (
        f"curl -X POST '{service.url}/baskets/users/{access['user_id']}/checkout/sessions/finish-active' "
        f"-H 'X-API-Key: {access['api_key']}' -H 'Content-Type: application/json' -d '{{\"ordered\": true}}'"
    )
    if options.as_json:
        summary = {
            "url": service.url,
            "api_key": access["api_key"],
            "test_api_key": access["test_api_key"],
            "admin_user": access["admin_user"],
            "admin_password": access["admin_password"],
            "database_url": database_url,
            "data_dir": str(folder.path),
            "finish_curl": finish,
        }
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        database = folder.read("database").get("home")
        sys.stdout.write(
            f"\nThe basket service is running at {service.url}\n\n"
            f"  API key   {access['api_key']}\n"
            f"  Test key  {access['test_api_key']}   for the sandbox and the examples of the docs\n"
            f"  Admin     {service.url}/admin/   name {access['admin_user']}   password {access['admin_password']}\n"
            f"  Docs      {service.url}/docs\n"
            f"  Data      {folder.path}{f' (database: {database})' if database else ''}\n"
            f"  Log       {folder.service_log}\n\n"
            f"Finish the checkout of user {access['user_id']}:\n\n  {finish}\n\n"
            "Ctrl-C stops it.\n",
        )
    sys.stdout.flush()


def _watch(service: Service, cluster: Cluster | None) -> None:
    """Restart service and database when they die, until a signal ends the demo.

    :raises Failure: the service ends too often.
    """
    down_since: float | None = None
    restarts: list[float] = []
    while True:
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if service.has_ended():
            restarts = [moment for moment in restarts if now - moment < _RESTARTS_WITHIN_SECONDS]
            if len(restarts) >= _MAX_RESTARTS:
                raise Failure(f"The service has ended {_MAX_RESTARTS + 1} times within a minute; its log is {service.folder.service_log}.")
            restarts.append(now)
            print_progress("The service has ended unexpectedly; starting it again.")
            service.restart()
        if cluster is None or cluster.is_running():
            down_since = None
            continue
        down_since = down_since or now
        delay = _RESTART_AFTER_STOP_SECONDS if cluster.was_shut_down() else _RESTART_AFTER_CRASH_SECONDS
        if now - down_since >= delay:
            print_progress("The database server has ended; starting it again.")
            _restart_database(cluster)
            down_since = None


def _restart_database(cluster: Cluster) -> None:
    """Start the database server again on its former port, which the service knows."""
    try:
        cluster.start(keep_port=True)
    except Failure as failure:
        # The service answers 503 until then. The next round tries again, because the cause may be temporary, such as a full disk.
        print_progress(str(failure))
