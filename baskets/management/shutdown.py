"""Lets a command that works in batches finish the batch it is in when it is told to stop."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def graceful_shutdown() -> Iterator[Callable[[], bool]]:
    """Take SIGTERM and Ctrl-C as a wish, and tell the block inside whether it was uttered."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set  # Signals are the main thread's business.
        return
    before = {number: signal.signal(number, lambda *_: asked.set()) for number in SIGNALS}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
