"""Runs calls at the same moment, each in its own thread and on its own connection."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import connection

WAIT_SECONDS = 30


def run_concurrently(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Release all calls at once.

    :returns: the result or the exception of each call, in the order of the calls.
    """
    barrier = threading.Barrier(len(calls))

    def one(call: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
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
            # Long enough for the second to come to the first one's lock, short beside the lock timeout of 3 s.
            threading.Event().wait(0.3)
            self._go.set()
            return first.result(WAIT_SECONDS), second.result(WAIT_SECONDS)


def _outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 (an outcome like any other: the test compares it)
        return error
    finally:
        connection.close()
