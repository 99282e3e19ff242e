"""The bounded queue between the event loop and the threads: ordered by priority, then by age. Does no input or output."""

import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

from basket_project.http_server.requests import Head

if TYPE_CHECKING:
    from basket_project.http_server.connections import Connection
    from basket_project.http_server.suspension import Suspension

# Shares of the permitted wait: how long a queue is not empty until it is a standing one, and how long a request waits in that.
_BURST_SHARE, _STANDING_SHARE = 0.75, 0.25


class QueuedRequest:
    """One whole request that waits for a thread or is being handled.

    :param priority: 0 is handled first.
    """

    __slots__ = ("body", "connection", "generation", "head", "priority", "queued_at", "suspension")

    def __init__(self, connection: "Connection", head: Head, body: bytes, priority: int) -> None:
        self.connection = connection
        self.generation = connection.generation
        self.head = head
        self.body = body
        self.priority = priority
        self.queued_at = time.monotonic()
        self.suspension: Suspension | None = None


class RequestQueue:
    """A thread-safe queue. The event loop puts, the threads get.

    # Note [A standing queue]
    # A queue absorbs bursts: it fills, and becomes empty again. If it has not been empty for most of `seconds`, more requests arrive than
    # the threads can handle, and a longer wait makes none of them succeed: each accepted one would wait for the whole time. So the wait
    # is then limited to a quarter (the idea of CoDel, RFC 8289). The threads stay busy, and accepted requests are fast.

    :param priorities: number of priorities; 0 comes first.
    :param length: number of requests that may wait.
    :param seconds: how long a request may wait.
    """

    def __init__(self, *, priorities: int, length: int, seconds: float) -> None:
        self._seconds = seconds
        self._standing_since: float | None = None  # When the first request came since a thread took the last one.
        self._waiting: list[deque[QueuedRequest]] = [deque() for _ in range(priorities)]
        self._length = length
        self._size = 0
        self._lock = threading.Lock()
        # One token for each request: `SimpleQueue` blocks in C, which is cheaper than a condition variable.
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        self._tokens_due = 0

    def __len__(self) -> int:
        return self._size

    def put(self, request: QueuedRequest) -> QueuedRequest | None:
        """Add a request. A thread takes it after `wake_threads`.

        :returns: the request to refuse because the queue is full: the oldest of the lowest priority, or the new one; None if none.
        """
        refused = None
        with self._lock:
            if self._size >= self._length:
                lower = next((waiting for waiting in reversed(self._waiting[request.priority + 1 :]) if waiting), None)
                if lower is None:
                    return request
                refused = lower.popleft()
                self._size -= 1
            self._waiting[request.priority].append(request)
            self._size += 1
            if self._standing_since is None:
                self._standing_since = request.queued_at
        self._tokens_due += 1
        return refused

    def wake_threads(self) -> None:
        """Wake a thread for each request that was added since the last call.

        The event loop calls it when it is about to wait: a thread that is woken earlier only waits again, for the GIL.
        """
        while self._tokens_due:
            self._tokens_due -= 1
            self._tokens.put(True)

    def get(self) -> QueuedRequest | None:
        """Wait for the next request; returns None when the queue is closed."""
        while self._tokens.get():
            with self._lock:
                for waiting in self._waiting:
                    if waiting:
                        self._size -= 1
                        if not self._size:
                            self._standing_since = None
                        return waiting.popleft()
                self._standing_since = None  # A thread is free: `pop_late` has removed the request of this token.
        return None

    def pop_late(self, now: float) -> list[QueuedRequest]:
        """Remove and return the requests that have waited too long; see Note [A standing queue].

        :param now: the time of `time.monotonic()`.
        """
        late: list[QueuedRequest] = []
        if not self._size:
            return late
        with self._lock:
            is_standing = self._standing_since is not None and now - self._standing_since > self._seconds * _BURST_SHARE
            moment = now - self._seconds * (_STANDING_SHARE if is_standing else 1)
            for waiting in self._waiting:
                while waiting and waiting[0].queued_at < moment:
                    late.append(waiting.popleft())
            self._size -= len(late)
        return late

    def close(self, threads: int) -> None:
        """Make `get` return None in this many threads."""
        for _ in range(threads):
            self._tokens.put(False)
