"""Manages one PostgreSQL server with its data folder: creates, starts, adopts and stops it. Does not know the stored data."""

import contextlib
import os
import random
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from basket_project.launcher.accounts import Account
from basket_project.launcher.binaries import Binaries
from basket_project.launcher.failure import Failure, StopRequested, last_lines
from basket_project.launcher.processes import has_working_directory

HOST = "127.0.0.1"
# Below those that Linux and macOS give to outgoing connections.
PORTS = range(10_000, 32_768)
USER = "baskets"
DATABASE = "baskets"
_RETRY_SECONDS = 30
_LARGE_LOG_BYTES = 10_000_000
# The protocol's SSLRequest: the server answers it without authentication.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")

# Small, and reachable only over loopback with a password. Error messages of statements can quote user ids, so the log has only
# messages about the server itself (LOG, FATAL, PANIC), without details.
_SETTINGS = {
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "password_encryption": "'scram-sha-256'",
    "ssl": "off",
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "logging_collector": "off",
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_min_duration_statement": "-1",
    "log_statement": "'none'",
    "log_error_verbosity": "terse",
}
DURABLE = {"max_connections": "50", "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
# The database of a test run need not survive a crash; concurrency tests use a hundred connections at once.
NOT_DURABLE = {"max_connections": "250", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "wal_level": "logical"}


def free_port() -> int:
    """Return a port of the loopback interface that is free at the moment. No outgoing connection will take it."""
    while not port_is_free(port := random.choice(PORTS)):  # noqa: S311 (no secret)
        pass
    return port


def port_is_free(port: int) -> bool:
    """Return whether a server can listen on this port of the loopback interface.

    :raises PermissionError: this account may not use the port.
    """
    with socket.socket() as probe:
        probe.settimeout(2)
        # On some systems a port in use on all interfaces can still be bound on one, so check for a listener first.
        if probe.connect_ex((HOST, port)) == 0:
            return False
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except PermissionError:
            raise
        except OSError:
            return False
    return True


@dataclass(frozen=True)
class Cluster:
    """A server with its folder.

    :param home: a folder of the account, for the data, the log, and a copy of the programs if needed.
    :param password: password of the database's owner.
    :param settings: settings of `postgresql.conf` in addition to the common ones.
    """

    home: Path
    binaries: Binaries
    account: Account
    password: str
    settings: dict[str, str]

    @property
    def data(self) -> Path:
        """Return the server's own data folder."""
        return self.home / "data"

    @property
    def log(self) -> Path:
        """Return the file that the server writes its messages to."""
        return self.home / "postgresql.log"

    @property
    def exists(self) -> bool:
        """Return whether the data folder has been created."""
        return (self.data / "PG_VERSION").exists()

    @property
    def url(self) -> str:
        """Return the URL of the database, with the owner's password, for `DATABASE_URL`."""
        return self.url_of(USER, self.password)

    def url_of(self, user: str, password: str) -> str:
        """Return the URL of the database for another role than the owner."""
        return f"postgresql://{user}:{password}@{HOST}:{self._port()}/{DATABASE}"

    def start(self, *, keep_port: bool = False) -> None:
        """Create the cluster if it does not exist, and start its server unless it runs. A server left by a killed command is adopted.

        :param keep_port: reuse the last port, because clients know it.
        :raises Failure: the data have another version, or the server does not start within the time for retries.
        """
        if not self.exists:
            self._create()
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != str(self.binaries.major):
            raise Failure(
                f"The data in {self.home} were created by PostgreSQL {version}, and this server is PostgreSQL {self.binaries.major}; "
                "use that version, or another data folder."
            )
        if not (self.is_running() and self._becomes_ready()):
            self._start(keep_port=keep_port)

    def is_running(self) -> bool:
        """Return whether a server runs on this data folder."""
        pid = self._recorded_pid()
        # After a crash, the recorded process id may belong to another program; a server has its data folder as working directory.
        return pid is not None and has_working_directory(pid, self.data)

    def was_shut_down(self) -> bool:
        """Return whether a server that has ended was shut down rather than killed: a shutdown removes the process file."""
        return not self._process_file.exists()

    def stop(self, *, fast: bool = True) -> None:
        """Stop the server.

        :param fast: roll back open transactions and shut down cleanly; otherwise stop immediately, without a checkpoint.
        :raises Failure: the server does not stop.
        """
        if not self.is_running():
            return
        stopped = self._run("pg_ctl", "stop", "-w", "-t", "15", "-m", "fast" if fast else "immediate", "-D", str(self.data))
        if stopped.returncode != 0 and self.is_running():
            self._run("pg_ctl", "stop", "-w", "-t", "15", "-m", "immediate", "-D", str(self.data))
        if self.is_running():
            raise Failure(f"The database server in {self.home} does not stop: {stopped.stdout.strip()}")

    # -- creating -------------------------------------------------------------------------------

    def _create(self) -> None:
        """Create the data folder under a temporary name and rename it when complete, so an interruption leaves no partial folder."""
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self.home / "password.unfinished"
        password_file.unlink(missing_ok=True)
        self._write(password_file, self.password + "\n")
        command = ["-D", str(unfinished), "-U", USER, f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # The built-in provider sorts by code point on every system, like C, and supports upper and lower case of all letters.
        builtin = self.binaries.major >= 17
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if builtin else ["--locale=C"]
        if self.settings["fsync"] == "off":
            command.append("--no-sync")
        try:
            initialized = self._run("initdb", *command)
        finally:
            password_file.unlink(missing_ok=True)
        if initialized.returncode != 0:
            raise Failure(f"PostgreSQL could not create its data folder in {self.home}: {_last_line(initialized.stdout)}")
        with (unfinished / "postgresql.conf").open("a") as settings:
            settings.write("\n# The launcher writes this file before each start.\ninclude = 'launcher.conf'\n")
        self._write(unfinished / "launcher.conf", "")
        self._write(unfinished / "pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n")
        # Single-user mode needs no authentication, and the database exists before the folder gets its final name.
        created = self._run("postgres", "--single", "-D", str(unfinished), "postgres", stdin=f"CREATE DATABASE {DATABASE};\n")
        if created.returncode != 0:
            raise Failure(f"PostgreSQL could not create the database {DATABASE}: {_last_line(created.stdout)}")
        unfinished.rename(self.data)

    def _write(self, path: Path, content: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        self.account.chown(path)

    # -- starting -------------------------------------------------------------------------------

    def _start(self, *, keep_port: bool) -> None:
        port = self._configured_port()
        if port is None or not (keep_port or port_is_free(port)):
            port = free_port()
        settings = _SETTINGS | self.settings | {"port": str(port)}
        self._write(self.data / "launcher.conf", "".join(f"{name} = {value}\n" for name, value in settings.items()))
        if self.log.exists() and self.log.stat().st_size > _LARGE_LOG_BYTES:
            self.log.unlink()
        deadline = time.monotonic() + _RETRY_SECONDS
        while True:
            self._remove_stale_process_file()
            started = self._run("pg_ctl", "start", "-w", "-t", str(_RETRY_SECONDS * 2), "-D", str(self.data), "-l", str(self.log))
            if started.returncode == 0:
                return
            # Processes of a killed server hold its shared memory for a moment, or another command may be starting the server.
            if time.monotonic() > deadline:
                raise Failure(f"The database server in {self.home} does not start; its log ends with:\n{last_lines(self.log)}")
            time.sleep(0.5)
            if self.is_running() and self._becomes_ready():
                return

    def _remove_stale_process_file(self) -> None:
        """Remove the process file of a dead server if another program now has its process id; PostgreSQL would refuse to start."""
        pid = self._recorded_pid()
        if pid is None or has_working_directory(pid, self.data):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, 0)
            self._process_file.unlink(missing_ok=True)

    def _becomes_ready(self) -> bool:
        """Wait until a running server accepts connections; it may be recovering from a crash.

        :returns: False if it ended or the time for retries is over.
        """
        deadline = time.monotonic() + _RETRY_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            lines = self._process_lines()
            if len(lines) > 7 and lines[7].strip() == "ready" and self._accepts_connections():
                return True
            time.sleep(0.1)
        return False

    def _accepts_connections(self) -> bool:
        """Return whether the server answers an SSLRequest: a dying server has a process and a port for some milliseconds."""
        try:
            with socket.create_connection((HOST, self._port()), timeout=2) as connection:
                connection.sendall(_SSL_REQUEST)
                return bool(connection.recv(1))
        except OSError:
            return False

    @property
    def _process_file(self) -> Path:
        return self.data / "postmaster.pid"

    def _process_lines(self) -> list[str]:
        try:
            return self._process_file.read_text().splitlines()
        except FileNotFoundError:
            return []

    def _recorded_pid(self) -> int | None:
        lines = self._process_lines()
        # In single-user mode the server writes a negative process id.
        return abs(int(lines[0])) if lines and lines[0].strip().lstrip("-").isdigit() else None

    def _configured_port(self) -> int | None:
        for line in (self.data / "launcher.conf").read_text().splitlines():
            name, _, value = line.partition(" = ")
            if name == "port":
                return int(value)
        return None

    def _port(self) -> int:
        lines = self._process_lines()
        port = int(lines[3]) if len(lines) > 3 else self._configured_port()
        if port is None:
            raise Failure(f"The database server in {self.home} has never been started.")
        return port

    def _run(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs as its account, without the `PG*` and locale variables of the shell."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG", "TZ"))}
        environment |= {"LC_ALL": "C", "TZ": "UTC", "HOME": str(self.home)}
        # Output goes to a file: a started server keeps its output open, and a pipe would never end.
        with tempfile.TemporaryFile("w+") as source, tempfile.TemporaryFile("w+", errors="replace") as output:
            source.write(stdin)
            source.flush()
            source.seek(0)
            with subprocess.Popen(
                [str(self.binaries.folder / program), *arguments],
                stdin=source,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                # Ctrl-C in the terminal must reach only the launcher, which stops the server last.
                start_new_session=True,
                **self.account.for_subprocess(),
            ) as process:
                try:
                    code = process.wait()
                except StopRequested:
                    # A half-started server could not be found again, so wait; the caller then stops it.
                    process.wait()
                    raise
            output.seek(0)
            return subprocess.CompletedProcess(process.args, code, stdout=output.read())


def new_password() -> str:
    """Return a random password that needs no quoting in a URL."""
    return secrets.token_urlsafe(24)


def _last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output."
