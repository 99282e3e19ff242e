"""What the embedded database server asks of the operating system; a database named by DATABASE_URL asks nothing of it."""

import platform
import sys
import sysconfig

from basket_project.launcher.failure import Failure


def check_embedded_server_runs_here() -> None:
    """Check that the packaged PostgreSQL programs can run on this system.

    :raises Failure: when they cannot.
    """
    if sys.platform not in ("linux", "darwin"):
        message = f"The embedded PostgreSQL server runs on Linux and macOS, not on {platform.system()}; name a database with DATABASE_URL."
        raise Failure(message)
    if "musl" in str(sysconfig.get_config_var("SOABI")) or "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        message = "The embedded PostgreSQL server needs glibc, and this Linux is built on musl; name a database with DATABASE_URL."
        raise Failure(message)
