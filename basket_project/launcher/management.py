"""Runs Django's management commands in the project's environment, with the variables that the settings read."""

import os
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from basket_project.launcher.environment import PROJECT, PYTHON, shell_variables
from basket_project.launcher.failure import Failure, StopRequested


def service_variables(*, database_url: str, secret_key: str) -> dict[str, str]:
    """Return the environment of the demo's service: production settings, reachable from this machine only."""
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
    """Run a management command and return what it prints.

    :param stdin: what it reads from standard input.
    :raises Failure: when it fails, with the end of what it said.
    """
    ended = subprocess.run(
        [str(PYTHON), "manage.py", *arguments],
        cwd=PROJECT,
        env=variables,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,  # The sentence below says more than a traceback of ours would.
    )
    if ended.returncode != 0:
        message = f"`manage.py {arguments[0]}` failed: {_told(ended.stderr or ended.stdout) or f'it ended with code {ended.returncode}'}"
        raise Failure(message)
    return ended.stdout


def _told(output: str) -> str:
    """Return the line that names the error; a traceback ends with it, unless the error itself has several lines."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    naming = [line for line in lines if re.match(r"[\w.]*(Error|ImproperlyConfigured|Exception): ", line)]
    return (naming or lines or [""])[-1]


def run_attached(command: Sequence[str], variables: dict[str, str], *, cwd: Path = PROJECT) -> int:
    """Run a command on our own terminal and return its code; a stop signal reaches it, and it is given time to end by itself."""
    with subprocess.Popen(command, cwd=cwd, env=variables) as child:
        try:
            code = child.wait()
        except StopRequested as stopped:
            # Ctrl-C has reached the child too, by the terminal; SIGTERM was meant for us alone.
            if stopped.number != signal.SIGINT or not any(os.isatty(stream) for stream in (0, 1, 2)):
                child.send_signal(stopped.number)
            try:
                child.wait(20)
            except subprocess.TimeoutExpired:
                child.kill()
            raise
    return code if code >= 0 else 128 - code
