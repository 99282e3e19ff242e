"""Work in a thread beside a block."""

import threading
from typing import Self


class Background:
    """Calls `_look` again and again in a thread. Use it as a context manager.

    :param seconds: pause before each call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            self._look()

    def _look(self) -> None:
        raise NotImplementedError
