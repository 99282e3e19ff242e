"""Checks that the embedded database server runs on this operating system. A database named by DATABASE_URL needs no check."""

import platform
import sys
import sysconfig

from basket_project.launcher.failure import Failure


def check_embedded_server_runs_here() -> None:
    """Check that the packaged PostgreSQL programs can run on this system.

    :raises Failure: they cannot.
    """
    if sys.platform not in ("linux", "darwin"):
        raise Failure(
            f"The embedded PostgreSQL server runs on Linux and macOS, not on {platform.system()}; name a database with DATABASE_URL."
        )
    if "musl" in str(sysconfig.get_config_var("SOABI")) or "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        raise Failure("The embedded PostgreSQL server needs glibc, and this Linux uses musl; name a database with DATABASE_URL.")
