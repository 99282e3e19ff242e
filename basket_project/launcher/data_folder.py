"""The folder in which the demo keeps its database, its secrets and the note of what it started; the one place that knows its layout."""

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
# Where root keeps a database whose owner cannot reach the data folder itself, as under a closed home folder.
_SHARED_PLACES = (Path("/var/lib"), Path("/var/tmp"))  # noqa: S108 - a private folder with a random name is made there


class DataFolder:
    """Files by name, each readable by nobody else and written completely or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self.demo_lock = FileLock(self.path / "demo.lock")
        self.server_lock = FileLock(self.path / "server.lock")
        self.change_lock = FileLock(self.path / "change.lock")

    def make(self) -> None:
        """Make the folder if it is missing, and check that files can be written there.

        :raises Failure: when they cannot.
        """
        try:
            # Root's database belongs to another account, which must be able to pass through; the files in it are private one by one.
            self.path.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            message = f"The data folder {self.path} cannot be written to: {os_error_text(error)}."
            raise Failure(message) from error

    @property
    def service_log(self) -> Path:
        """Return the file that the service logs to."""
        return self.path / "service.log"

    def open_service_log(self) -> BinaryIO:
        """Open the service's log at its end, for our own account only; an overlong one makes room for a new one."""
        log = self.service_log
        if log.exists() and log.stat().st_size > _LARGE_LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")

    def read(self, name: str) -> dict[str, Any]:
        """Return what was written under this name; empty if nothing was."""
        try:
            content = json.loads(self._file(name).read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            message = f"The file {self._file(name)} cannot be read ({error}); remove it or choose another data folder."
            raise Failure(message) from error
        return content if isinstance(content, dict) else {}

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write this under this name, in place of what was there, readable by our own account only."""
        descriptor, unfinished = tempfile.mkstemp(dir=self.path, prefix=f"{name}.")
        with os.fdopen(descriptor, "w") as file:
            json.dump(content, file, indent=1)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(unfinished).replace(self._file(name))

    def remove(self, name: str) -> None:
        """Forget what was written under this name."""
        self._file(name).unlink(missing_ok=True)

    def _file(self, name: str) -> Path:
        return self.path / f"{name}.json"

    def secret(self, name: str, length: int = 48) -> str:
        """Return the secret of this name; it is drawn when it is first asked for, and stays."""
        known = self.read("secrets")
        if name not in known:
            known[name] = secrets.token_urlsafe(length)
            self.write("secrets", known)
        return str(known[name])

    def database_home(self, account: Account) -> Path:
        """Return the folder of the embedded database, which the account owns and can reach.

        :raises Failure: when there is no place for one.
        """
        place = self.read("database").get("home")
        home = Path(str(place)) if place else self.path / "postgres"
        if not place and not account.is_own and not account.can_enter(self.path):
            home = _shared_place() / f"baskets-{secrets.token_hex(8)}"
            self.write("database", {"home": str(home)})
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            account.give(home)
        except OSError as error:
            message = f"The folder {home} for the database cannot be made: {os_error_text(error)}."
            raise Failure(message) from error
        return home


def _shared_place() -> Path:
    for place in _SHARED_PLACES:
        with contextlib.suppress(OSError), tempfile.TemporaryFile(dir=place):
            return place
    message = "The data folder lies where the account of the database server cannot reach it; name another one with --data-dir."
    raise Failure(message)
