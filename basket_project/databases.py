"""Turns the URL of a database into Django's settings for it: PostgreSQL only, TLS over a network, limits for servers that hang."""

import re
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured

# An empty host, or the path of a socket, is local.
LOCAL_HOST = re.compile(r"|/.*|localhost|127(\.\d+){3}|\[?::1\]?", re.ASCII)


def complete_database(variable: str, config: dict[str, Any], *, session: Mapping[str, str]) -> dict[str, Any]:
    """Complete the settings of one database.

    :param variable: where its URL was read from.
    :param config: the parsed URL.
    :param session: settings that the server sets for every connection.
    :returns: an entry of Django's setting `DATABASES`.
    :raises ImproperlyConfigured: it is not PostgreSQL, or is reached over a network and permits a connection without TLS.
    """
    if config["ENGINE"] != "django.db.backends.postgresql":
        raise ImproperlyConfigured(f"{variable} must name a PostgreSQL database: the service runs on no other.")
    options = config.setdefault("OPTIONS", {})
    # libpq also reads hosts from the query of the URL.
    named = [config["HOST"], *(options.get(name, "") for name in ("host", "hostaddr"))]
    if remote := [host for hosts in named for host in hosts.split(",") if not LOCAL_HOST.fullmatch(host)]:
        # By default libpq falls back to plain text if the server offers no TLS.
        sslmode = options.setdefault("sslmode", "require")
        if sslmode in ("disable", "allow", "prefer"):
            raise ImproperlyConfigured(
                f"{variable} reaches {remote[0]} with sslmode={sslmode}, which permits a connection without TLS: "
                "use verify-full or require."
            )
    # A standby may be reached while a name still leads to it: such a connection would be kept and never write.
    options.setdefault("target_session_attrs", "primary")
    return config | {
        "ENGINE": "baskets.db.backend",
        # The client's limit for one round trip: the server's limits are of no use where the server itself hangs.
        "WAIT_SECONDS": 15,
        "CONN_MAX_AGE": None,
        "OPTIONS": options
        | {
            "options": " ".join(f"-c {name}={value}" for name, value in session.items()),
            "server_side_binding": True,
            # `baskets.db.pipeline` prepares the hot statements itself; psycopg would deallocate them together with its own.
            "prepare_threshold": None,
            "connect_timeout": 2,
            "keepalives_idle": 30,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            # Where packets are dropped, the system would otherwise send them again for a quarter of an hour.
            "tcp_user_timeout": 10_000,
            "application_name": "baskets",
        },
    }
