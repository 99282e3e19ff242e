"""Collects the static files of the pages into `.venv/static`: once for each version, under hashed names, compressed by gzip and Brotli."""

import hashlib

from basket_project.launcher.environment import ENVIRONMENT, LOCKS, PROJECT, print_progress, shell_variables
from basket_project.launcher.failure import Failure, os_error_text
from basket_project.launcher.locking import FileLock
from basket_project.launcher.programs import run_quietly

STATIC_ROOT = ENVIRONMENT / "static"
VARIABLE = "DJANGO_STATIC_ROOT"
_SOURCES = (LOCKS / "run.lock", PROJECT / "basket_project" / "settings.py", PROJECT / "baskets" / "static")
_RECORD = STATIC_ROOT / "version.txt"


def static_variables() -> dict[str, str]:
    """Ensure that the static files are collected, unless the operator's own DJANGO_STATIC_ROOT names a folder.

    A folder that is up to date is only read, so an installation may be read-only after its set-up.

    :returns: the environment variable by which the settings find them.
    :raises Failure: the folder is out of date and cannot be written.
    """
    named = shell_variables().get(VARIABLE)
    if named:
        return {VARIABLE: named}
    version = _version()
    try:
        with FileLock(LOCKS).held(when_waiting=lambda: print_progress("Waiting for another set-up of this project ...")):
            if _collected_version() != version:
                print_progress("Collecting the static files ...")
                _collect()
                _RECORD.write_text(version)
    except OSError as error:
        raise Failure(f"The static files cannot be written to {error.filename or STATIC_ROOT}: {os_error_text(error)}.") from error
    return {VARIABLE: str(STATIC_ROOT)}


def _collect() -> None:
    """Run `collectstatic`. Older files stay: a process that was started before still serves them."""
    STATIC_ROOT.mkdir(exist_ok=True)
    _RECORD.unlink(missing_ok=True)
    variables = shell_variables() | {
        VARIABLE: str(STATIC_ROOT),
        # The settings need these two; the command uses neither.
        "DATABASE_URL": "postgres:///unused",
        "DJANGO_SECRET_KEY": "collectstatic-signs-and-encrypts-nothing-with-this-key",
        "DJANGO_SETTINGS_MODULE": "basket_project.settings",
    }
    # Swagger UI's second bundle is not used.
    run_quietly(["collectstatic", "--no-input", "--ignore=*standalone-preset*"], variables)


def _collected_version() -> str:
    try:
        return _RECORD.read_text()
    except OSError:
        return ""


def _version() -> str:
    """Digest what the collected files depend on: the packages, the settings, and the project's own static files."""
    digest = hashlib.sha256()
    for source in _SOURCES:
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file():
                digest.update(f"{path.relative_to(PROJECT)}\n".encode() + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()
