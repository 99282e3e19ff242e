"""Waits for what other threads and processes do."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], object], seconds: float = 180) -> bool:
    """Wait until a condition holds.

    :param seconds: generous by default: a busy machine may be slow, and a condition that holds is not waited for.
    :returns: whether it came to hold in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
