"""The folder with the demo's database, secrets and process records. No other module knows its layout."""

import contextlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, BinaryIO

from basket_project.launcher.accounts import Account
from basket_project.launcher.environment import PROJECT
from basket_project.launcher.failure import Failure, os_error_text
from basket_project.launcher.locking import FileLock

DEFAULT = PROJECT / ".data"
_LARGE_LOG_BYTES = 10_000_000
# For root: the parent of the database folder if the database account cannot reach the data folder.
_SHARED_PLACES = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - the folder created there is private and has a random name


class DataFolder:
    """Named JSON files, readable by their owner only, and written atomically."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.demo_lock = FileLock(self.path / "demo.lock")
        self.server_lock = FileLock(self.path / "server.lock")
        self.change_lock = FileLock(self.path / "change.lock")

    def make(self) -> None:
        """Create the folder if it is missing, and check that it is writable.

        :raises Failure: it is not.
        """
        try:
            # Root's database belongs to another account, which must be able to enter; each file in the folder is private.
            self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise Failure(f"The data folder {self.path} cannot be written to: {os_error_text(error)}.") from error

    def of_cell(self, number: int) -> "DataFolder":
        """Return the data folder of one cell of several. It may not exist yet."""
        return DataFolder(self.path / f"cell-{number}")

    @property
    def is_cell(self) -> bool:
        """Return whether this is the data folder of one cell of several."""
        return self.path.name.startswith("cell-")

    def of_cells(self) -> "list[DataFolder]":
        """Return the data folders of all cells that were ever started here."""
        return [DataFolder(path) for path in sorted(self.path.glob("cell-[1-9]*"))]

    @property
    def service_log(self) -> Path:
        """Return the path of the service's log."""
        return self.path / "service.log"

    def open_service_log(self) -> BinaryIO:
        """Open the service's log for appending, readable by its owner only; a log above the size limit is rotated."""
        log = self.service_log
        if log.exists() and log.stat().st_size > _LARGE_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")

    def read(self, name: str) -> dict[str, Any]:
        """Return the content written under this name; an empty dictionary if there is none.

        :raises Failure: the file cannot be read.
        """
        try:
            content = json.loads(self._file(name).read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise Failure(f"The file {self._file(name)} cannot be read ({error}); remove it or choose another data folder.") from error
        return content if isinstance(content, dict) else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Replace the content under this name atomically; the file is readable by its owner only."""
        descriptor, unfinished = tempfile.mkstemp(dir=self.path, prefix=f"{name}.")
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(self._file(name))

    def remove(self, name: str) -> None:
        """Delete the content under this name."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def secret(self, name: str, length: int = 48) -> str:
        """Return the secret of this name; the first call generates and stores it.

        :param length: number of random bytes.
        """
        known = self.read("secrets")
        if name not in known:
            known[name] = secrets.token_urlsafe(length)
            self.write("secrets", known)
        return str(known[name])

    def database_home(self, account: Account) -> Path:
        """Return the folder of the embedded database, which the account owns and can reach.

        :raises Failure: no such folder can be created.
        """
        place = self.read("database").get("home")
        home = Path(str(place)) if place else self.path / "postgres"
        if not place and not account.is_own and not account.can_enter(self.path):
            home = _shared_place() / f"baskets-{secrets.token_hex(8)}"
            self.write("database", {"home": str(home)})
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            account.chown(home)
        except OSError as error:
            raise Failure(f"The folder {home} for the database cannot be created: {os_error_text(error)}.") from error
        return home


def _shared_place() -> Path:
    for place in _SHARED_PLACES:
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=place):
            return place
    raise Failure("The account of the database server cannot reach the data folder; choose another one with --data-dir.")
