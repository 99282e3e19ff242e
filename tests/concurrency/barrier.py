"""Runs calls at the same moment, each in its own thread and on its own connection."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from django.db import connection

from tests.waiting import eventually

WAIT_SECONDS = 60


def run_concurrently(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Release all calls at once.

    They wait for locks longer than in production: on a busy machine the last one of a crowd may wait for seconds.

    :returns: the result or the exception of each call, in the order of the calls.
    """
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET lock_timeout = '{WAIT_SECONDS}s'; SET statement_timeout = '{WAIT_SECONDS}s'")
            connection.connection.wait_seconds = WAIT_SECONDS
            barrier.wait(WAIT_SECONDS)
            return call()
        except Exception as error:  # noqa: BLE001 (an outcome like any other: the test compares it)
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls, timeout=WAIT_SECONDS))


class PausedCall:
    """A call that pauses at one point until it is released: wrap the function at that point with `at`.

    Only the thread of the paused call stops; other threads pass the point.
    """

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._go = threading.Event()
        self._thread: int | None = None

    def at(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that the paused call waits after it."""

        def pause_after(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if threading.get_ident() == self._thread:
                self.reached.set()
                assert self._go.wait(WAIT_SECONDS)
            return result

        return pause_after

    def run(self, call: Callable[[], Any], while_paused: Callable[[], Any]) -> tuple[Any, Any]:
        """Run `call` up to its point, start `while_paused` beside it, then let both end; return both outcomes."""

        def paused() -> Any:
            self._thread = threading.get_ident()
            return _outcome(call)

        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(paused)
            assert self.reached.wait(WAIT_SECONDS)
            second = pool.submit(_outcome, while_paused)
            try:
                assert eventually(lambda: are_stuck_or_done([second]), WAIT_SECONDS)
            finally:
                self._go.set()
            return first.result(WAIT_SECONDS), second.result(WAIT_SECONDS)


def waiting_for_locks() -> int:
    """Return how many sessions wait for a lock of the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")
        return int(cursor.fetchone()[0])


def are_stuck_or_done(running: Sequence[Future[Any]]) -> bool:
    """Return whether each call has ended, or waits for a lock of the database."""
    return waiting_for_locks() >= sum(not call.done() for call in running)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 (an outcome like any other: the test compares it)
        return error
    finally:
        connection.close()
