"""Threads beside a test: their connections are closed, and what they raise fails the test that started them."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connections


@contextmanager
def beside(*calls: Callable[[], Any], stop: Callable[[], object] = lambda: None) -> Iterator[list[Future[Any]]]:
    """Run calls during a block, each in a thread, and wait for their ends.

    What a call raises is raised in place of what the block raises, which is mostly its consequence.

    :param stop: called at the end of the block, to let the calls end.
    """
    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(_call_and_close, call) for call in calls]
        try:
            yield running
        finally:
            stop()
            for one in running:
                one.result()


def _call_and_close(call: Callable[[], Any]) -> Any:
    try:
        return call()
    finally:
        connections.close_all()
