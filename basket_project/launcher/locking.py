"""Locks between processes, held through an open file, so that they end with their holder however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


class FileLock:
    """One lock on one file or folder. Children do not inherit it: Python opens files as not inheritable."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def _open(self) -> int:
        if self._descriptor is None:
            # A folder can be locked as it is, which leaves no lock file behind; a file is made when it is missing.
            flags = os.O_RDONLY if self.path.is_dir() else os.O_RDWR | os.O_CREAT
            self._descriptor = os.open(self.path, flags, 0o600)
        return self._descriptor

    def take(self, *, shared: bool = False) -> None:
        """Wait for the lock."""
        fcntl.flock(self._open(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def try_take(self) -> bool:
        """Take the lock alone, or turn a shared hold into a sole one, if nobody else is there; say whether it worked."""
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Let go of the lock; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def held(self, *, when_waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock alone for the length of a block, and say so first when another process makes us wait."""
        if not self.try_take():
            if when_waiting:
                when_waiting()
            self.take()
        try:
            yield
        finally:
            self.release()
