"""Makes and renews the project's virtual environment `.venv` from the hashed locks, with nothing but Python's own venv and pip."""

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
LOCK_NAMES = ("run", "embedded", "test", "dev")

# What an earlier set-up installed; missing while one is at work, so that an interrupted set-up starts over.
_RECORD = ENVIRONMENT / "installed.json"

# Variables that would send packages elsewhere than into the environment, or bring others in from outside.
_MISLEADING = (
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


def print_progress(progress: str) -> None:
    """Tell the person who waits what is going on; standard output belongs to results."""
    sys.stderr.write(progress + "\n")
    sys.stderr.flush()


def shell_variables() -> dict[str, str]:
    """Return the variables of the shell that started us, without those that would mislead Python or pip in the environment."""
    return {name: value for name, value in os.environ.items() if name not in _MISLEADING}


def ensure_environment(names: Sequence[str]) -> None:
    """Make sure that `.venv` belongs to this Python and holds what these locks list, exactly.

    :raises Failure: when something that this needs is missing.
    """
    lock = FileLock(LOCKS)
    try:
        with lock.held(when_waiting=lambda: print_progress("Waiting for another set-up of this project to end ...")):
            _ensure(names)
    except OSError as error:
        message = f"The set-up cannot write to {error.filename or PROJECT}: {os_error_text(error)}."
        raise Failure(message) from error


def _ensure(names: Sequence[str]) -> None:
    wanted = {name: _digest(name) for name in names}
    installed = _installed()
    if any(installed.get(name) not in (None, _digest(name)) for name in LOCK_NAMES):
        # A lock has changed: what it no longer lists must go too, so the environment is made anew.
        installed = {}
    missing = [name for name in names if name not in installed]
    if not missing:
        return
    _RECORD.unlink(missing_ok=True)
    if not installed:
        _create()
    for name in missing:
        print_progress(f"Installing what {LOCKS.name}/{name}.lock lists ...")
        _install(name)
    _write_record(installed | {name: wanted[name] for name in missing})


def _digest(name: str) -> str:
    return hashlib.sha256((LOCKS / f"{name}.lock").read_bytes()).hexdigest()


def _python_mark() -> str:
    return f"{platform.python_implementation()} {platform.python_version()} {sysconfig.get_config_var('SOABI')} {PROJECT}"


def _installed() -> dict[str, str]:
    """Return what is installed by lock; nothing when another Python made the environment, or it is unfinished or broken."""
    try:
        record = json.loads(_RECORD.read_text())
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or record.get("python") != _python_mark() or not PYTHON.exists():
        return {}
    locks = record.get("locks")
    return locks if isinstance(locks, dict) else {}


def _write_record(installed: dict[str, str]) -> None:
    unfinished = _RECORD.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"python": _python_mark(), "locks": installed}, indent=1) + "\n")
    unfinished.replace(_RECORD)


def _base_python() -> str:
    """Return the interpreter that ran the command, or the one behind it when that is the environment we are about to replace."""
    if Path(sys.prefix).resolve() == ENVIRONMENT.resolve():
        return str(getattr(sys, "_base_executable", sys.executable))
    return sys.executable


def _create() -> None:
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            message = (
                f"This Python lacks its module {module}, which makes virtual environments; "
                "install it, on Debian and Ubuntu with `apt install python3-venv`."
            )
            raise Failure(message)
    print_progress(f"Making {ENVIRONMENT.name} with Python {platform.python_version()} ...")
    made = _run([_base_python(), "-m", "venv", "--clear", str(ENVIRONMENT)])
    if made.returncode != 0:
        message = f"Python could not make the virtual environment {ENVIRONMENT}: {_last_words(made)}"
        raise Failure(message)
    if _run([str(PYTHON), "-m", "pip", "--version"]).returncode != 0:
        message = "The virtual environment came without pip; install Python's pip and ensurepip, then start again."
        raise Failure(message)


def _install(name: str) -> None:
    command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
    # Every package is there ready to use for the systems we support; building one would need a compiler nobody promised.
    command += ["--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(LOCKS / f"{name}.lock")]
    installed = _run(command)
    if installed.returncode != 0:
        message = f"pip could not install what {LOCKS.name}/{name}.lock lists: {_last_words(installed)}"
        raise Failure(message)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,  # The caller says in a sentence what went wrong.
        cwd=tempfile.gettempdir(),  # A folder without modules that could be mistaken for Python's own.
        env=shell_variables(),
    )


def _last_words(ended: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in ended.stdout.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "Error:"))]
    return (errors or lines or [f"it ended with code {ended.returncode} and without a word"])[-1]
