"""The bounded queue between the event loop and the threads: by priority, then by age, and nothing waits beyond its deadline."""

import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING

from basket_project.http_server.requests import Head

if TYPE_CHECKING:
    from basket_project.http_server.connections import Connection


class QueuedRequest:
    """One whole request that waits for a thread, or has one."""

    __slots__ = ("body", "connection", "head", "priority", "queued_at", "turn")

    def __init__(self, connection: "Connection", head: Head, body: bytes, priority: int) -> None:
        self.connection = connection
        self.turn = connection.turn
        self.head = head
        self.body = body
        self.priority = priority
        self.queued_at = time.monotonic()


class RequestQueue:
    """Calls by priority, 0 first. The event loop puts, the threads take.

    :param priorities: how many there are.
    :param length: how many calls wait at most.
    """

    def __init__(self, *, priorities: int, length: int) -> None:
        self._waiting: list[deque[QueuedRequest]] = [deque() for _ in range(priorities)]
        self._length = length
        self._size = 0
        self._lock = threading.Lock()
        # One token for each call: waiting for a token is cheaper than waiting for a condition.
        self._tokens: SimpleQueue[bool] = SimpleQueue()

    def __len__(self) -> int:
        return self._size

    def put(self, call: QueuedRequest) -> QueuedRequest | None:
        """Add a call; returns the call that must be refused because the queue is full: the oldest of the last priority, or the new one."""
        refused = None
        with self._lock:
            if self._size >= self._length:
                lower = next((waiting for waiting in reversed(self._waiting[call.priority + 1 :]) if waiting), None)
                if lower is None:
                    return call
                refused = lower.popleft()
                self._size -= 1
            self._waiting[call.priority].append(call)
            self._size += 1
        self._tokens.put(True)
        return refused

    def take(self) -> QueuedRequest | None:
        """Wait for the next call; returns None when the queue is closed."""
        while self._tokens.get():
            with self._lock:
                for waiting in self._waiting:
                    if waiting:
                        self._size -= 1
                        return waiting.popleft()
        return None

    def take_older_than(self, moment: float) -> list[QueuedRequest]:
        """Remove and return the calls that were queued before a moment."""
        late = []
        with self._lock:
            for waiting in self._waiting:
                while waiting and waiting[0].queued_at < moment:
                    late.append(waiting.popleft())
            self._size -= len(late)
        return late

    def close(self, threads: int) -> None:
        """Let this many threads end."""
        for _ in range(threads):
            self._tokens.put(False)
