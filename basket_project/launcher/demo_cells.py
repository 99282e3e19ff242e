"""What the demo needs in addition for several cells: a folder and variables for each, the slot map, and HAProxy before all of them."""

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.embedded import cluster_of
from basket_project.launcher.environment import print_progress
from basket_project.launcher.failure import Failure
from basket_project.launcher.programs import run_quietly
from basket_project.launcher.service import HOST, Proxy

# Debian installs HAProxy in a folder that is not in the PATH of most users.
_PATHS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
NO_HAPROXY = (
    "HAProxy is not installed, so no address serves all users: call the cell of each user, at the addresses of the services. "
    "A call that reaches another cell is answered with 421."
)


def folders_of(folder: DataFolder, cells: int) -> list[DataFolder]:
    """Return the data folder of each cell, and create those that are missing; the folder itself if there is only one."""
    if cells == 1:
        return [folder]
    folders = [folder.of_cell(number) for number in range(1, cells + 1)]
    for used in folders:
        used.make()
    return folders


def stop_unused_clusters(folders: Iterable[DataFolder]) -> None:
    """Stop the database servers that a killed demo with another number of cells left, unless another command uses them."""
    for folder in folders:
        if folder.read("secrets").get("database_password") and cluster_of(folder).exists and folder.server_lock.try_acquire():
            cluster_of(folder).stop()
            folder.server_lock.release()


def slot_map_of(folder: DataFolder) -> Path:
    """Return the path of the slot map of the demo's cells."""
    return folder.path / "slots.map"


def prepare(folder: DataFolder, database_urls: Sequence[str], variables: dict[str, str]) -> list[dict[str, str]]:
    """Write the slot map if there is none, and keep the variables of each cell for the command `manage`.

    :param database_urls: of the owner of the tables, by cell.
    :param variables: those of any service, for the commands that need no database.
    :returns: the variables of each cell.
    :raises Failure: the stored slot map has more cells.
    """
    cells, slot_map = len(database_urls), slot_map_of(folder)
    if not slot_map.exists():
        unfinished = slot_map.with_suffix(".unfinished")
        unfinished.write_text(run_quietly(["slot_map", "--cells", str(cells)], variables))
        unfinished.replace(slot_map)
    if (known := len(folder.of_cells())) > cells:
        raise Failure(f"The demo in {folder.path} has {known} cells: start it with --cells {known}, or choose another --data-dir.")
    common = {"DJANGO_SECRET_KEY": variables["DJANGO_SECRET_KEY"], "BASKETS_SLOT_MAP": str(slot_map)}
    common |= {"BASKETS_CELL_DATABASES": " ".join(database_urls), "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost,.localhost"}
    if find_haproxy():
        common["BASKETS_CLIENT_ADDRESS_HEADER"] = "X-Forwarded-For"
    made = [common | {"BASKETS_CELL": str(number)} for number in range(1, cells + 1)]
    for number, own in enumerate(made, 1):
        folder.of_cell(number).write("variables", own)
    return made


def find_haproxy() -> Path | None:
    """Return the path of HAProxy, or None if it is not installed."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path=_PATHS)
    return Path(found) if found else None


def start_proxy(folder: DataFolder, port: int, service_ports: Sequence[int], variables: dict[str, str]) -> Proxy | None:
    """Start HAProxy before the services of the cells.

    :param service_ports: by cell.
    :returns: None, after a sentence, if HAProxy is not installed.
    :raises Failure: it does not start.
    """
    program = find_haproxy()
    if program is None:
        print_progress(NO_HAPROXY)
        return None
    servers = [argument for service in service_ports for argument in ("--cell", f"{HOST}:{service}")]
    bind = f"{HOST}:{port}"
    config = folder.path / "haproxy.cfg"
    config.write_text(run_quietly(["haproxy_config", "--slot-map", str(slot_map_of(folder)), "--bind", bind, *servers], variables))
    proxy = Proxy(folder, port, variables, program=program, config=config)
    print_progress("Starting HAProxy ...")
    proxy.start()
    return proxy
