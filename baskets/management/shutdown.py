"""Graceful shutdown: a command that works in batches finishes its current batch after SIGTERM or Ctrl-C."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """Handle SIGTERM and SIGINT: yields a function that returns whether one was received."""
    received = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield received.is_set  # Only the main thread may handle signals.
        return
    before = {number: signal.signal(number, lambda *_: received.set()) for number in SIGNALS}
    try:
        yield received.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
