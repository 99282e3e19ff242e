"""What is done to a place: each fault by its name, with what it takes to get over it. Only what the place itself started is killed."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

import psycopg

from tests.chaos.harness import Place

Fault = Callable[[Place, random.Random], None]


def worker_killed(place: Place, chance: random.Random) -> None:
    """The process server puts another in its place."""
    _signal(chance.choice(place.workers() or [0]), signal.SIGKILL)


def worker_frozen(place: Place, chance: random.Random) -> None:
    """With whatever locks it holds at that moment; then it goes on, or is killed."""
    worker = chance.choice(place.workers() or [0])
    _signal(worker, signal.SIGSTOP)
    time.sleep(chance.choice([0.2, 1.0, 4.0]))
    _signal(worker, chance.choice([signal.SIGCONT, signal.SIGKILL]))


def service_killed(place: Place, chance: random.Random) -> None:
    """All of its processes at once; somebody starts it again."""
    place.kill_server()
    place.start_server()


def backend_terminated(place: Place, chance: random.Random) -> None:
    """As an administrator ends a session."""
    with place.database() as client:
        client.execute("SELECT pg_terminate_backend(%s)", [chance.choice(place.backends() or [0])])


def backend_killed(place: Place, chance: random.Random) -> None:
    """The database server throws all its sessions out and recovers."""
    backends = place.backends()
    if backends:
        _signal(chance.choice(backends), signal.SIGKILL)
    place.database().close()


def backend_frozen(place: Place, chance: random.Random) -> None:
    """A statement that hangs, with its locks."""
    backends = place.backends()
    if backends:
        backend = chance.choice(backends)
        _signal(backend, signal.SIGSTOP)
        time.sleep(chance.choice([0.2, 1.0, 3.5]))
        _signal(backend, signal.SIGCONT)


def database_killed(place: Place, chance: random.Random) -> None:
    """The whole server, the way a power cut ends it but for the disk's own cache; it comes back after a while."""
    _signal(place.postmaster(), signal.SIGKILL)
    time.sleep(chance.choice([0, 0.5, 2.0]))
    place.bring_back_database()
    place.database().close()


def database_restarted(place: Place, chance: random.Random) -> None:
    """As for a new version."""
    place.cluster.stop()
    time.sleep(chance.choice([0, 1.0]))
    place.bring_back_database()


def database_read_only(place: Place, chance: random.Random) -> None:
    """As a standby is, or a server whose disk is nearly full."""
    _set(place, "default_transaction_read_only", "on")
    time.sleep(1.0)
    _set(place, "default_transaction_read_only", "off")


def connections_used_up(place: Place, chance: random.Random) -> None:
    """Somebody else has them all, and the service loses its own."""
    with contextlib.ExitStack() as taken:
        with place.database() as client:
            client.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baskets'")
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(60):
                taken.enter_context(place.database(patience_seconds=0))
        time.sleep(1.0)


# What befalls the service and what befalls its database, so that each can happen without regard to the other.
TO_THE_SERVICE: tuple[Fault, ...] = (worker_killed, worker_frozen, service_killed)
TO_THE_DATABASE: tuple[Fault, ...] = (
    backend_terminated,
    backend_killed,
    backend_frozen,
    database_killed,
    database_restarted,
    database_read_only,
    connections_used_up,
)
FAULTS: dict[str, Fault] = {fault.__name__: fault for fault in (*TO_THE_SERVICE, *TO_THE_DATABASE)}


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _set(place: Place, name: str, value: str) -> None:
    with place.database(options="-c default_transaction_read_only=off") as client:
        client.execute(f"ALTER SYSTEM SET {name} = {value}")
        client.execute("SELECT pg_reload_conf()")
