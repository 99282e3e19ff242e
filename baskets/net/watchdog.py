"""Shuts sockets down at their deadlines. The timeout of a socket restarts with every byte received; this one does not."""

import contextlib
import heapq
import itertools
import socket
import threading
import time
from typing import Any


class Watchdog:
    """Shuts down sockets at their deadlines: one thread for all requests, because to start one for each costs more than to send it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        # Deadline, a number that decides between equal ones, and the socket, or None once it was released.
        self._guarded: list[list[Any]] = []
        self._numbers = itertools.count()
        self._is_running = False

    def guard(self, connected: socket.socket, deadline: float) -> list[Any]:
        """Shut a socket down at a deadline, unless it is released before.

        :param deadline: on the monotonic clock.
        :returns: what `release` takes.
        """
        guarded = [deadline, next(self._numbers), connected]
        with self._changed:
            heapq.heappush(self._guarded, guarded)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
            elif self._guarded[0] is guarded:
                self._changed.notify()
        return guarded

    def release(self, guarded: list[Any]) -> None:
        """Leave a socket alone from now on."""
        with self._changed:
            guarded[2] = None

    def _watch(self) -> None:
        """Shut down what is due. Ends when nothing is guarded."""
        with self._changed:
            while self._guarded:
                deadline, _, connected = self._guarded[0]
                if connected is not None and (seconds := deadline - time.monotonic()) > 0:
                    self._changed.wait(seconds)
                    continue
                heapq.heappop(self._guarded)
                if connected is not None:
                    shut_down(connected)
            self._is_running = False


def shut_down(connected: socket.socket) -> None:
    """Shut down a socket from the watchdog's thread, so that the waiting thread gets an error.

    The argument is the socket, because a connection drops its socket when the peer announces to close. The plain socket's
    method is called, because that of a TLS socket discards the TLS state first, while another thread may be sending.
    """
    with contextlib.suppress(OSError):  # The peer may have closed the connection already.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
