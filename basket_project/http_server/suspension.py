"""Lets the application put a request aside and continue it later. A suspended request holds its connection, and no thread."""

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from basket_project.http_server.connections import Connection

# The key of the WSGI environment under which the application finds the suspension of a request. Absent while the server stops.
ENVIRON_KEY = "http_server.suspension"


class Suspension:
    """The suspension of one request.

    The application calls `suspend` and returns any response, which is discarded. Later, any thread calls `resume`, and the whole
    request is handled again, in the queue like a new one. A call of `resume` before `suspend`, or a second one, has no effect.

    :param connection: the connection of the request.
    :param requeue: puts the request into the queue again; called in any thread.
    """

    def __init__(self, connection: "Connection", requeue: "Callable[[], None]") -> None:
        self._connection = connection
        self._requeue = requeue
        self._lock = threading.Lock()
        self._is_parked = self._is_resumed = False
        self._started_at = time.monotonic()
        # Whether the application has suspended the request in this run, and whether this run is not the first one.
        self.is_suspended = self.was_suspended = False

    @property
    def age_seconds(self) -> float:
        """The time since the request was handled first."""
        return time.monotonic() - self._started_at

    @property
    def is_abandoned(self) -> bool:
        """Whether the client has disconnected."""
        return self._connection.peer_closed

    def suspend(self) -> None:
        """Put the request aside once the application has returned."""
        self.is_suspended, self._is_resumed = True, False

    def resume(self) -> None:
        """Let the request be handled again."""
        with self._lock:
            self._is_resumed, was_parked, self._is_parked = True, self._is_parked, False
        if was_parked:
            self._continue()

    def park(self) -> None:
        """Wait for `resume`. The server calls this when the application has returned."""
        with self._lock:
            self._is_parked = is_parked = not self._is_resumed
        if not is_parked:
            self._continue()

    def _continue(self) -> None:
        self.is_suspended, self.was_suspended = False, True
        self._requeue()
