"""Chooses the operating system account that runs the database server: PostgreSQL refuses to run as root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from basket_project.launcher.failure import Failure


class _SubprocessUser(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The account that runs the server.

    :param is_own: whether it is the account of this process.
    """

    user: int
    group: int
    is_own: bool

    def for_subprocess(self) -> _SubprocessUser:
        """Return the keyword arguments of `subprocess.run` that switch to this account."""
        return {} if self.is_own else {"user": self.user, "group": self.group, "extra_groups": []}

    def chown(self, path: Path) -> None:
        """Make this account the owner of a file or folder."""
        if not self.is_own:
            os.chown(path, self.user, self.group)

    def chown_tree(self, folder: Path) -> None:
        """Make this account the owner of a folder and its content."""
        self.chown(folder)
        for path in folder.rglob("*"):
            if not self.is_own:
                os.chown(path, self.user, self.group, follow_symlinks=False)

    def can_enter(self, folder: Path) -> bool:
        """Return whether this account can enter a folder. A subprocess tests it, so that ACLs and mount options count."""
        test = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)],
            check=False,  # The exit code is the result.
            cwd="/",
            **self.for_subprocess(),
        )
        return test.returncode == 0


def server_account() -> Account:
    """Return the account for the database server: the current one; for root, `postgres` or else `nobody`.

    :raises Failure: root has neither account.
    """
    if os.geteuid() != 0:
        return Account(user=os.geteuid(), group=os.getegid(), is_own=True)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(user=entry.pw_uid, group=entry.pw_gid, is_own=False)
    raise Failure("PostgreSQL refuses to run as root, and neither of the accounts `postgres` and `nobody` exists.")
