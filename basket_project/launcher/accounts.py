"""The operating system account that runs the database server: PostgreSQL refuses to be run by root."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from basket_project.launcher.failure import Failure


class _As(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """The account to run the server with: our own, unless that is root."""

    user: int
    group: int
    is_own: bool

    def for_subprocess(self) -> _As:
        """Return the arguments of `subprocess.run` that switch to this account."""
        return {} if self.is_own else {"user": self.user, "group": self.group, "extra_groups": []}

    def give(self, path: Path) -> None:
        """Make this account the owner of a file or folder that we made."""
        if not self.is_own:
            os.chown(path, self.user, self.group)

    def give_all(self, folder: Path) -> None:
        """Make this account the owner of a folder and everything in it."""
        self.give(folder)
        for path in folder.rglob("*"):
            if not self.is_own:
                os.chown(path, self.user, self.group, follow_symlinks=False)

    def can_enter(self, folder: Path) -> bool:
        """Tell whether this account can pass through a folder, asked of the system itself so that every kind of right counts."""
        test = subprocess.run(
            ["/bin/sh", "-c", 'test -x "$1"', "sh", str(folder)],
            check=False,  # The code of its end is the answer.
            cwd="/",
            **self.for_subprocess(),
        )
        return test.returncode == 0


def server_account() -> Account:
    """Return the account for the database server: root hands over to `postgres`, or to `nobody` where that does not exist."""
    if os.geteuid() != 0:
        return Account(user=os.geteuid(), group=os.getegid(), is_own=True)
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(user=entry.pw_uid, group=entry.pw_gid, is_own=False)
    message = "PostgreSQL refuses to run as root, and there is neither an account postgres nor nobody to run it with instead."
    raise Failure(message)
