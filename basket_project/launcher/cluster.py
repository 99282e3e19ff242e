"""One PostgreSQL server of our own on one data folder: made, started, adopted and stopped; knows nothing of what is stored in it."""

import contextlib
import os
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
USER = "baskets"
DATABASE = "baskets"
_RETRY_SECONDS = 30
_LARGE_LOG_BYTES = 10_000_000
# The first message of the protocol that is answered without a name: its length, and a number that stands for the question.
_ASK_FOR_ENCRYPTION = bytes.fromhex("0000000804d2162f")

# Durable, small, reachable over loopback with a password only, and silent about values: an error of a statement can quote the ids
# of users, so the log holds what the server says about itself (LOG, FATAL, PANIC), without details.
_SETTINGS = {
    "listen_addresses": f"'{HOST}'",
    "unix_socket_directories": "''",
    "password_encryption": "'scram-sha-256'",
    "ssl": "off",
    "shared_buffers": "'64MB'",
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
# A test run ends with its database: nothing needs to survive a loss of power, and races are run by a hundred threads at once.
NOT_DURABLE = {"max_connections": "250", "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def port_is_free(port: int) -> bool:
    """Tell whether a server could listen on this port of the loopback interface.

    :raises OSError: when the port may not be used at all, for want of a right.
    """
    with socket.socket() as probe:
        probe.settimeout(2)
        # On some systems a port taken on all interfaces may still be bound on one; whoever answers there is in the way too.
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

    :param home: a folder that the account owns; it holds the data, the log, and the programs if they had to be copied.
    :param password: of the one user and database that the cluster is made with.
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
        """Tell whether the data folder has been made."""
        return (self.data / "PG_VERSION").exists()

    @property
    def url(self) -> str:
        """Return the address of the database, with the password, as `DATABASE_URL` takes it."""
        return self.url_of(USER, self.password)

    def url_of(self, user: str, password: str) -> str:
        """Return the address of the database for another role than the owner."""
        return f"postgresql://{user}:{password}@{HOST}:{self._port()}/{DATABASE}"

    def start(self, *, keep_port: bool = False) -> None:
        """Make the cluster if there is none, and start its server unless it runs; one that a killed command left behind is adopted.

        :param keep_port: insist on the port it had, since somebody knows its address.
        :raises Failure: when the data are of another version, or the server does not come up within the time for retries.
        """
        if not self.exists:
            self._make()
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != str(self.binaries.major):
            message = (
                f"The data in {self.home} were made by PostgreSQL {version}, and this server is PostgreSQL {self.binaries.major}; "
                "use the server they were made with, or another data folder."
            )
            raise Failure(message)
        if not (self.is_running() and self._answers_soon()):
            self._start(keep_port=keep_port)

    def is_running(self) -> bool:
        """Tell whether a server works on this data folder."""
        pid = self._recorded_pid()
        # After a crash the number in the file may belong to a stranger by now; a server stands in its data folder.
        return pid is not None and has_working_directory(pid, self.data)

    def was_stopped_in_order(self) -> bool:
        """Tell whether a server that is gone was stopped by somebody, rather than killed: then it has taken its process file along."""
        return not self._process_file.exists()

    def stop(self, *, fast: bool = True) -> None:
        """Stop the server: connections are cut, transactions rolled back; without `fast` it is dropped where it stands."""
        if not self.is_running():
            return
        stopped = self._run("pg_ctl", "stop", "-w", "-t", "15", "-m", "fast" if fast else "immediate", "-D", str(self.data))
        if stopped.returncode != 0 and self.is_running():
            self._run("pg_ctl", "stop", "-w", "-t", "15", "-m", "immediate", "-D", str(self.data))
        if self.is_running():
            message = f"The database server in {self.home} does not stop: {stopped.stdout.strip()}"
            raise Failure(message)

    # -- making ---------------------------------------------------------------------------------

    def _make(self) -> None:
        """Make the data folder beside its place and move it there when it is complete, so that an interruption leaves no half of one."""
        unfinished = self.home / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file = self.home / "password.unfinished"
        password_file.unlink(missing_ok=True)
        self._write(password_file, self.password + "\n")
        command = ["-D", str(unfinished), "-U", USER, f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8"]
        # The built-in provider orders by code point like C, on every system alike, and still knows the case of all letters.
        builtin = self.binaries.major >= 17
        command += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if builtin else ["--locale=C"]
        if self.settings["fsync"] == "off":
            command.append("--no-sync")
        try:
            made = self._run("initdb", *command)
        finally:
            password_file.unlink(missing_ok=True)
        if made.returncode != 0:
            message = f"PostgreSQL could not make its data folder in {self.home}: {_last_line(made.stdout)}"
            raise Failure(message)
        with (unfinished / "postgresql.conf").open("a") as settings:
            settings.write("\n# What the launcher sets; it writes that file anew before each start.\ninclude = 'launcher.conf'\n")
        self._write(unfinished / "launcher.conf", "")
        self._write(unfinished / "pg_hba.conf", "host all all 127.0.0.1/32 scram-sha-256\n")
        # Without a listening server there is nobody to authenticate to, and the new database is there before the folder is.
        created = self._run("postgres", "--single", "-D", str(unfinished), "postgres", stdin=f"CREATE DATABASE {DATABASE};\n")
        if created.returncode != 0:
            message = f"PostgreSQL could not make the database {DATABASE}: {_last_line(created.stdout)}"
            raise Failure(message)
        unfinished.rename(self.data)

    def _write(self, path: Path, content: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(content)
        self.account.give(path)

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
            self._forget_stranger()
            started = self._run("pg_ctl", "start", "-w", "-t", str(_RETRY_SECONDS * 2), "-D", str(self.data), "-l", str(self.log))
            if started.returncode == 0:
                return
            # The last processes of a killed server hold its memory for a moment, and somebody else may be starting it just now.
            if time.monotonic() > deadline:
                message = f"The database server in {self.home} does not start; its log ends with:\n{last_lines(self.log)}"
                raise Failure(message)
            time.sleep(0.5)
            if self.is_running() and self._answers_soon():
                return

    def _forget_stranger(self) -> None:
        """Remove the process file of a server that is gone when its number belongs to another program now; PostgreSQL would give up."""
        pid = self._recorded_pid()
        if pid is None or has_working_directory(pid, self.data):
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, 0)
            self._process_file.unlink(missing_ok=True)

    def _answers_soon(self) -> bool:
        """Wait for a server that somebody else started until it accepts connections; it may still be recovering from a crash."""
        deadline = time.monotonic() + _RETRY_SECONDS
        while self.is_running() and time.monotonic() < deadline:
            lines = self._process_lines()
            if len(lines) > 7 and lines[7].strip() == "ready" and self._answers():
                return True
            time.sleep(0.1)
        return False

    def _answers(self) -> bool:
        """Ask whether it speaks encrypted: a server that is dying has a process and a port for some milliseconds, and no answer."""
        try:
            with socket.create_connection((HOST, self._port()), timeout=2) as asking:
                asking.sendall(_ASK_FOR_ENCRYPTION)
                return bool(asking.recv(1))
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
        # The server negates the number while it stands alone for one session.
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
            message = f"The database server in {self.home} has never been started."
            raise Failure(message)
        return port

    def _run(self, program: str, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one of the server's programs as its account, in an environment that nobody else's settings reach."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG", "TZ"))}
        environment |= {"LC_ALL": "C", "TZ": "UTC", "HOME": str(self.home)}
        # The answer goes through a file: a server that was started keeps its output open, and a pipe would never end.
        with tempfile.TemporaryFile("w+") as source, tempfile.TemporaryFile("w+", errors="replace") as answer:
            source.write(stdin)
            source.flush()
            source.seek(0)
            with subprocess.Popen(
                [str(self.binaries.folder / program), *arguments],
                stdin=source,
                stdout=answer,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=environment,
                # Keys pressed in the terminal are for the launcher, which stops the server when its turn has come.
                start_new_session=True,
                **self.account.for_subprocess(),
            ) as running:
                try:
                    code = running.wait()
                except StopRequested:
                    # A server that is half way up could be found by nobody; whole, it is found and stopped.
                    running.wait()
                    raise
            answer.seek(0)
            return subprocess.CompletedProcess(running.args, code, stdout=answer.read())


def new_password() -> str:
    """Return a password that can stand in a URL as it is."""
    return secrets.token_urlsafe(24)


def _last_line(answer: str) -> str:
    lines = [line.strip() for line in answer.splitlines() if line.strip()]
    return lines[-1] if lines else "it ended without a word."
