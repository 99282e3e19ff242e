"""Locks between processes through `flock`: the system releases them when their process ends, even if it is killed."""

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


class FileLock:
    """A lock on a file or folder. Child processes do not inherit it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def _open(self) -> int:
        if self._descriptor is None:
            # A folder is locked itself, without a lock file; a missing file is created.
            flags = os.O_RDONLY if self.path.is_dir() else os.O_RDWR | os.O_CREAT
            self._descriptor = os.open(self.path, flags, 0o600)
        return self._descriptor

    def acquire(self, *, shared: bool = False) -> None:
        """Wait for the lock.

        :param shared: allow other shared holders.
        """
        fcntl.flock(self._open(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)

    def try_acquire(self) -> bool:
        """Acquire the lock exclusively, or turn a shared hold into an exclusive one, without waiting; returns whether it succeeded."""
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def release(self) -> None:
        """Release the lock; does nothing if it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    @contextlib.contextmanager
    def held(self, *, when_waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock exclusively during a block.

        :param when_waiting: called once if another process holds the lock.
        """
        if not self.try_acquire():
            if when_waiting:
                when_waiting()
            self.acquire()
        try:
            yield
        finally:
            self.release()
