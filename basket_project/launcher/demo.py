"""The command `demo`: starts database and service on a data folder, prints how to use them, restarts them if they die, and stops them."""

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from basket_project.launcher import demo_cells
from basket_project.launcher.cluster import Cluster, port_is_free
from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.embedded import running_cluster
from basket_project.launcher.environment import ensure_environment, print_progress
from basket_project.launcher.failure import Failure, StopRequested, ignore_stop_signals, os_error_text
from basket_project.launcher.platforms import check_embedded_server_runs_here
from basket_project.launcher.programs import run_quietly, service_variables
from basket_project.launcher.service import Proxy, Service, left_over_url, stop_left_over
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
    """The options of the command line.

    :param port: of the service; of the proxy with several cells, whose services have the following ports.
    :param cells: 1: an installation without cells.
    """

    port: int
    data: Path
    as_json: bool
    cells: int = 1


@dataclass(frozen=True)
class _Installation:
    """The database and the service of the demo, or those of one cell.

    :param access: what `load_demo` printed.
    """

    database_url: str
    service: Service
    access: dict[str, Any]


def demo(options: DemoOptions) -> int:
    """Run the demo until a signal ends it.

    :returns: the exit code.
    :raises Failure: a demo runs on this folder already, a port is in use, or a part does not start.
    """
    folder = DataFolder(options.data)
    folder.make()
    if not folder.demo_lock.try_acquire():
        where = left_over_url(folder) or left_over_url(folder.of_cell(1))
        raise Failure(f"A demo with the data folder {folder.path} is already running{f' at {where}' if where else ''}.")
    try:
        if options.cells > 1 and os.environ.get("DATABASE_URL"):
            raise Failure("Several cells need the embedded databases: unset DATABASE_URL.")
        folders = demo_cells.folders_of(folder, options.cells)
        if sum(stop_left_over(each) for each in (folder, *folder.of_cells())):
            print_progress("Stopped the service of an earlier demo.")
        for port in range(options.port, options.port + (options.cells + 1 if options.cells > 1 else 1)):
            _check_port(port)
        with contextlib.ExitStack() as databases:
            used = {each.path for each in folders}
            demo_cells.stop_unused_clusters(each for each in (folder, *folder.of_cells()) if each.path not in used)
            _serve(options, folder, [(each, *databases.enter_context(_database(each))) for each in folders])
    except StopRequested:
        print_progress("Stopped.")
    return 0


def _check_port(port: int) -> None:
    try:
        free = port_is_free(port)
    except OverflowError as error:
        raise Failure(f"There is no port {port}; choose a smaller one with --port.") from error
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


def _serve(options: DemoOptions, folder: DataFolder, databases: Sequence[tuple[DataFolder, str, Cluster | None]]) -> None:
    secret_key = os.environ.get("DJANGO_SECRET_KEY") or folder.secret("django_secret_key")
    common = service_variables(database_url="postgres://127.0.0.1/unused", secret_key=secret_key) | static_variables()
    own: list[dict[str, str]] = [{}]
    if options.cells > 1:
        own = demo_cells.prepare(folder, [url for _, url, _ in databases], common)
    print_progress("Migrating the database ..." if len(own) == 1 else "Migrating the databases ...")
    variables = [common | cell | {"DATABASE_URL": url} for cell, (_, url, _) in zip(own, databases, strict=True)]
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda cell: run_quietly(["migrate", "--no-input"], cell), variables))
    installations: list[_Installation] = []
    running: list[Service] = []
    try:
        for number, (each, url, cluster) in enumerate(databases):
            port = options.port + (number + 1 if options.cells > 1 else 0)
            service = Service(each, port, _service_role(each, cluster, variables[number]))
            running.append(service)
            first = installations[0].access if installations else None
            access = _install(service, url, variables[number], first)
            installations.append(_Installation(url, service, access))
        proxy = demo_cells.start_proxy(folder, options.port, [service.port for service in running], common) if options.cells > 1 else None
        if proxy:
            running.append(proxy)
        _announce(options, folder, installations, proxy)
        _watch(running, [cluster for *_, cluster in databases])
    finally:
        ignore_stop_signals()
        print_progress("Stopping ...")
        for service in reversed(running):
            service.stop()


def _service_role(folder: DataFolder, cluster: Cluster | None, variables: dict[str, str]) -> dict[str, str]:
    """Return the variables of the service. The owner of the tables migrates; the service has a role that cannot change them."""
    if cluster is None:
        return variables
    password = folder.secret("service_role_password", 24)
    run_quietly(["create_service_role", _SERVICE_ROLE], variables, stdin=password)
    return variables | {"DATABASE_URL": cluster.url_of(_SERVICE_ROLE, password)}


def _install(service: Service, database_url: str, variables: dict[str, str], first: dict[str, Any] | None) -> dict[str, Any]:
    """Load the demo data of one database, and start its service.

    :param first: what the first cell returned; its keys and accounts are those of all.
    :returns: API keys, user id and admin account.
    """
    cell = variables.get("BASKETS_CELL")
    where = f" of cell {cell}" if cell else ""
    print_progress(f"Loading the demo data{where} ...")
    if cell:
        run_quietly(["claim_slots"], variables)
    if first:
        # At every start, because the server of the first cell may have another port than before.
        run_quietly(["replicate_catalog", "--cell", str(cell)], variables)
    access = first | {"order_no": _run_load_demo(variables)["order_no"]} if first else _load_demo(service.folder, database_url, variables)
    print_progress(f"Starting the service{where} ...")
    service.start()
    for name in ("api_key", "test_api_key"):
        if not first and service.status_of("/baskets/users/demo", {"X-API-Key": access[name]}) == 401:
            # The stored key was revoked or has expired; the demo must print a valid one.
            access = _load_demo(service.folder, database_url, variables, _OPTION_BY_SECRET[name])
    return access


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


def _announce(options: DemoOptions, folder: DataFolder, installations: Sequence[_Installation], proxy: Proxy | None) -> None:
    # Of several cells, one has the user with the active checkout.
    example = next((each for each in installations if each.access["order_no"]), installations[0])
    first, url = installations[0], (proxy or example.service).url
    access = first.access
    finish = (
        f"curl -X POST '{url}/baskets/users/{access['user_id']}/checkout/sessions/finish-active' "
        f"-H 'X-API-Key: {access['api_key']}' -H 'Content-Type: application/json' -d '{{\"ordered\": true}}'"
    )
    if options.as_json:
        summary: dict[str, Any] = {
            "url": url,
            "api_key": access["api_key"],
            "test_api_key": access["test_api_key"],
            "admin_user": access["admin_user"],
            "admin_password": access["admin_password"],
            "database_url": first.database_url,
            "data_dir": str(folder.path),
            "finish_curl": finish,
        }
        if options.cells > 1:
            summary["proxy"] = proxy is not None
            summary["slot_map"] = str(demo_cells.slot_map_of(folder))
            summary["cells"] = [
                {"cell": number, "url": each.service.url, "database_url": each.database_url, "data_dir": str(each.service.folder.path)}
                for number, each in enumerate(installations, 1)
            ]
        sys.stdout.write(json.dumps(summary) + "\n")
    else:
        database = folder.read("database").get("home")
        sys.stdout.write(
            f"\nThe basket service is running at {url}\n\n"
            f"  API key   {access['api_key']}   live: it sells the products of the demo\n"
            f"  Test key  {access['test_api_key']}   for the sandbox and the examples of the docs\n"
            f"  Admin     {url}/admin/   name {access['admin_user']}   password {access['admin_password']}\n"
            f"  Docs      {url}/docs\n"
            f"  Data      {folder.path}{f' (database: {database})' if database else ''}\n"
            f"  Log       {first.service.folder.service_log}\n"
            f"{_cells_text(options, folder, installations, proxy)}\n"
            f"Finish the checkout of user {access['user_id']}:\n\n  {finish}\n\n"
            "Ctrl-C stops it.\n",
        )
    sys.stdout.flush()


def _cells_text(options: DemoOptions, folder: DataFolder, installations: Sequence[_Installation], proxy: Proxy | None) -> str:
    """Describe the cells, one line for each; nothing without cells."""
    if options.cells == 1:
        return ""
    hosts = [f"http://cell{number}.localhost:{options.port}" if proxy else "" for number in range(1, options.cells + 1)]
    lines = [
        f"  Cell {number}    {each.service.url}   {f'lists, feed and admin: {host}   ' if host else ''}data: {each.service.folder.path}\n"
        for number, (each, host) in enumerate(zip(installations, hosts, strict=True), 1)
    ]
    first = installations[0].service.folder.path
    return "".join(
        [
            *lines,
            f"  Slots     {demo_cells.slot_map_of(folder)}\n",
            *([] if proxy else [f"\n{demo_cells.NO_HAPROXY}\n"]),
            "\nMove stock between cells, and check the supply of all:\n\n",
            f"  python3 -m basket_project manage --data-dir {first} move_stock demo-mug 5 --from 1 --to 2\n",
            f"  python3 -m basket_project manage --data-dir {first} check_baskets --cells\n",
        ]
    )


def _watch(services: Sequence[Service], clusters: Sequence[Cluster | None]) -> None:
    """Restart services, proxy and databases when they die, until a signal ends the demo.

    :raises Failure: a service ends too often.
    """
    down_since: dict[Path, float] = {}
    restarts: dict[int, list[float]] = {service.port: [] for service in services}
    while True:
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        for service in services:
            if service.has_ended():
                recent = [moment for moment in restarts[service.port] if now - moment < _RESTARTS_WITHIN_SECONDS]
                if len(recent) >= _MAX_RESTARTS:
                    log = service.folder.service_log
                    raise Failure(f"The {service.record} has ended {_MAX_RESTARTS + 1} times within a minute; its log is {log}.")
                restarts[service.port] = [*recent, now]
                print_progress(f"The {service.record} has ended unexpectedly; starting it again.")
                service.restart()
        for cluster in filter(None, clusters):
            if cluster.is_running():
                down_since.pop(cluster.home, None)
                continue
            delay = _RESTART_AFTER_STOP_SECONDS if cluster.was_shut_down() else _RESTART_AFTER_CRASH_SECONDS
            if now - down_since.setdefault(cluster.home, now) >= delay:
                print_progress("The database server has ended; starting it again.")
                _restart_database(cluster)
                down_since.pop(cluster.home, None)


def _restart_database(cluster: Cluster) -> None:
    """Start the database server again on its former port, which the service knows."""
    try:
        cluster.start(keep_port=True)
    except Failure as failure:
        # The service answers 503 until then. The next round tries again, because the cause may be temporary, such as a full disk.
        print_progress(str(failure))
