"""Faults of the kill program, each by its name, with how the service recovers. Only processes that the harness started are killed."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable

import psycopg

from tests.chaos.harness import Harness

Fault = Callable[[Harness, random.Random], None]


def worker_killed(harness: Harness, rng: random.Random) -> None:
    """The process server replaces the worker."""
    _signal(rng.choice(harness.workers() or [0]), signal.SIGKILL)


def worker_frozen(harness: Harness, rng: random.Random) -> None:
    """The worker keeps its locks; then it continues or is killed."""
    worker = rng.choice(harness.workers() or [0])
    _signal(worker, signal.SIGSTOP)
    time.sleep(rng.choice([0.2, 1.0, 4.0]))
    _signal(worker, rng.choice([signal.SIGCONT, signal.SIGKILL]))


def service_killed(harness: Harness, rng: random.Random) -> None:
    """Kills all processes of the service at once, and starts it again."""
    harness.kill_server()
    harness.start_server()


def backend_terminated(harness: Harness, rng: random.Random) -> None:
    """Ends a session as an administrator does."""
    with harness.database() as client:
        client.execute("SELECT pg_terminate_backend(%s)", [rng.choice(harness.backends() or [0])])


def backend_killed(harness: Harness, rng: random.Random) -> None:
    """The database server ends all sessions and recovers."""
    backends = harness.backends()
    if backends:
        _signal(rng.choice(backends), signal.SIGKILL)
    harness.database().close()


def backend_frozen(harness: Harness, rng: random.Random) -> None:
    """A statement hangs and keeps its locks."""
    backends = harness.backends()
    if backends:
        backend = rng.choice(backends)
        _signal(backend, signal.SIGSTOP)
        time.sleep(rng.choice([0.2, 1.0, 3.5]))
        _signal(backend, signal.SIGCONT)


def database_killed(harness: Harness, rng: random.Random) -> None:
    """Kills the whole database server, as a power cut does except for the disk's cache, and restarts it."""
    _signal(harness.postmaster(), signal.SIGKILL)
    time.sleep(rng.choice([0, 0.5, 2.0]))
    harness.restart_database()
    harness.database().close()


def database_restarted(harness: Harness, rng: random.Random) -> None:
    """Restarts the database as an upgrade does."""
    harness.cluster.stop()
    time.sleep(rng.choice([0, 1.0]))
    harness.restart_database()


def database_read_only(harness: Harness, rng: random.Random) -> None:
    """Makes the database read-only for a second, like a standby."""
    _set(harness, "default_transaction_read_only", "on")
    time.sleep(1.0)
    _set(harness, "default_transaction_read_only", "off")


def connections_used_up(harness: Harness, rng: random.Random) -> None:
    """Another client takes all connections, and the service loses its own."""
    with contextlib.ExitStack() as taken:
        with harness.database() as client:
            client.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'baskets'")
        with contextlib.suppress(psycopg.OperationalError):
            for _ in range(60):
                taken.enter_context(harness.database(retry_seconds=0))
        time.sleep(1.0)


# Separate groups, so that faults of both can be injected independently.
SERVICE_FAULTS: tuple[Fault, ...] = (worker_killed, worker_frozen, service_killed)
DATABASE_FAULTS: tuple[Fault, ...] = (
    backend_terminated,
    backend_killed,
    backend_frozen,
    database_killed,
    database_restarted,
    database_read_only,
    connections_used_up,
)
FAULTS: dict[str, Fault] = {fault.__name__: fault for fault in (*SERVICE_FAULTS, *DATABASE_FAULTS)}


def _signal(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _set(harness: Harness, name: str, value: str) -> None:
    with harness.database(options="-c default_transaction_read_only=off") as client:
        client.execute(f"ALTER SYSTEM SET {name} = {value}")
        client.execute("SELECT pg_reload_conf()")
