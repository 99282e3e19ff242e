"""Creates and updates the virtual environment `.venv` from the hashed locks, with Python's venv and pip only."""

import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from pathlib import Path

from basket_project.launcher.failure import Failure, os_error_text
from basket_project.launcher.locking import FileLock

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = PROJECT / ".venv"
PYTHON = ENVIRONMENT / "bin" / "python"
LOCKS = PROJECT / ".requirements"
LOCK_NAMES = ("run", "tracing", "embedded", "test", "dev", "migrations")

# Records the installed locks. A running set-up deletes it first, so an interrupted set-up starts over.
_RECORD = ENVIRONMENT / "installed.json"

# Variables that would install packages elsewhere, or import packages from elsewhere.
_UNSAFE_VARIABLES = (
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "VIRTUAL_ENV",
    "__PYVENV_LAUNCHER__",
    "PIP_USER",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_PYTHON",
)


def print_progress(text: str) -> None:
    """Print progress to standard error; standard output is for results."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def shell_variables() -> dict[str, str]:
    """Return the environment variables of the shell, without those that would redirect Python or pip."""
    return {name: value for name, value in os.environ.items() if name not in _UNSAFE_VARIABLES}


def ensure_environment(names: Sequence[str]) -> None:
    """Ensure that `.venv` belongs to this Python and holds exactly the packages of these locks.

    :param names: names of locks, such as `run`.
    :raises Failure: Python lacks a module, or pip or the file system fails.
    """
    lock = FileLock(LOCKS)
    try:
        with lock.held(when_waiting=lambda: print_progress("Waiting for another set-up of this project ...")):
            _ensure(names)
    except OSError as error:
        raise Failure(f"The set-up cannot write to {error.filename or PROJECT}: {os_error_text(error)}.") from error


def _ensure(names: Sequence[str]) -> None:
    wanted = {name: _digest(name) for name in names}
    installed = _installed()
    if any(installed.get(name) not in (None, _digest(name)) for name in LOCK_NAMES):
        # A changed lock may list fewer packages, so create the environment again.
        installed = {}
    missing = [name for name in names if name not in installed]
    if not missing:
        return
    if ENVIRONMENT.is_symlink():
        raise Failure(f"{ENVIRONMENT} is a symbolic link, and this would change the folder behind it; remove the link.")
    _RECORD.unlink(missing_ok=True)
    if not installed:
        _create()
    for name in missing:
        print_progress(f"Installing {LOCKS.name}/{name}.lock ...")
        _install(name)
    _write_record(installed | {name: wanted[name] for name in missing})


def _digest(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.lock").read_bytes()).hexdigest()


def _python_fingerprint() -> str:
    return f"{platform.python_implementation()} {platform.python_version()} {sysconfig.get_config_var('SOABI')} {PROJECT}"


def _installed() -> dict[str, str]:
    """Return the digest of each installed lock; empty if the environment belongs to another Python, or is unfinished or broken."""
    try:
        record = json.loads(_RECORD.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or record.get("python") != _python_fingerprint() or not PYTHON.exists():
        return {}
    locks = record.get("locks")
    return locks if isinstance(locks, dict) else {}


def _write_record(installed: dict[str, str]) -> None:
    unfinished = _RECORD.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"python": _python_fingerprint(), "locks": installed}, indent=1) + "\n")
    unfinished.replace(_RECORD)


def _base_python() -> str:
    """Return the interpreter of this command; inside of `.venv`, which may be replaced, the interpreter it was created from."""
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return str(getattr(sys, "_base_executable", sys.executable))
    return sys.executable


def _create() -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise Failure(
                f"This Python lacks its module {module}, which creates virtual environments; "
                "install it, on Debian and Ubuntu with `apt install python3-venv`."
            )
    print_progress(f"Creating {ENVIRONMENT.name} with Python {platform.python_version()} ...")
    created = _run([_base_python(), "-m", "venv", "--clear", str(ENVIRONMENT)])
    if created.returncode != 0:
        raise Failure(f"Python could not create the virtual environment {ENVIRONMENT}: {_error_line(created)}")
    if _run([str(PYTHON), "-m", "pip", "--version"]).returncode != 0:
        raise Failure("The virtual environment has no pip; install Python's pip and ensurepip, then start again.")


def _install(name: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    # Wheels exist for all supported systems; building a package would need a compiler.
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(LOCKS / f"{name}.lock")]
    installed = _run(command)
    if installed.returncode != 0:
        raise Failure(f"pip could not install {LOCKS.name}/{name}.lock: {_error_line(installed)}")


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,  # The caller reports the error in a sentence.
        cwd=tempfile.gettempdir(),  # A folder without modules that could shadow those of Python.
        env=shell_variables(),
    )


def _error_line(process: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in process.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "Error:"))]
    return (errors or lines or [f"exit code {process.returncode}, no output"])[-1]
