"""Runs programs in the project's environment, with the variables that the settings read."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from basket_project.launcher.environment import PROJECT, PYTHON, shell_variables
from basket_project.launcher.failure import Failure, StopRequested


def service_variables(*, database_url: str, secret_key: str) -> dict[str, str]:
    """Return the environment variables of the demo's service: production settings, restricted to this machine."""
    return shell_variables() | {
        "DATABASE_URL": database_url,
        "DJANGO_SECRET_KEY": secret_key,
        "DJANGO_DEBUG": "0",
        "DJANGO_ALLOWED_HOSTS": "127.0.0.1,localhost",
        "DJANGO_SECURE_COOKIES": "0",
        "DJANGO_SETTINGS_MODULE": "basket_project.settings",
        "PYTHONUNBUFFERED": "1",
    }


def run_quietly(arguments: Sequence[str], variables: dict[str, str], *, stdin: str = "") -> str:
    """Run a management command and return its standard output.

    :param stdin: text for its standard input.
    :raises Failure: the command fails; the message has the last line of its output.
    """
    process = subprocess.run(
        [str(PYTHON), "manage.py", *arguments],
        cwd=PROJECT,
        env=variables,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,  # The sentence below is more useful than a traceback.
    )
    if process.returncode != 0:
        error = _error_line(process.stderr or process.stdout) or f"exit code {process.returncode}"
        raise Failure(f"`manage.py {arguments[0]}` failed: {error}")
    return process.stdout


def _error_line(output: str) -> str:
    """Return the line that names the error: of the system checks, else of a traceback, where it is the last one or begins the message."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    found = [line for line in lines if re.match(r".+: \(\w+\.E\d+\) ", line)]
    naming = [line for line in lines if re.match(r"[\w.]*(Error|ImproperlyConfigured|Exception): ", line)]
    return (found or naming or lines or [""])[-1]


def run_attached(command: Sequence[str], variables: dict[str, str], *, cwd: Path = PROJECT) -> int:
    """Run a command on this terminal, and pass stop signals on to it.

    :returns: the exit code; 128 and the signal's number if a signal ended it.
    :raises StopRequested: a signal arrived; the command had 20 s to end.
    """
    with subprocess.Popen(command, cwd=cwd, env=variables) as child:
        try:
            code = child.wait()
        except StopRequested as stopped:
            # The terminal sends Ctrl-C to the child as well; SIGTERM reached only this process.
            if stopped.number != signal.SIGINT or not any(os.isatty(stream) for stream in (0, 1, 2)):
                child.send_signal(stopped.number)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    return code if code >= 0 else 128 - code
