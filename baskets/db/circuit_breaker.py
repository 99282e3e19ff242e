"""Keeps callers from a database that does not answer: they are refused at once, and one at a time tries again.

Note [Circuit breaker]
A server that hangs keeps every caller for the whole wait, and each new connection for `connect_timeout`. With a few threads per
process, nothing else is answered then. So the first caller that waited in vain opens the circuit of its process. While it is open,
connections from before are not used, and new ones are refused at once, with one exception: after `PAUSE_SECONDS`, one caller at a
time tries to connect. An answer of the server, also an immediate refusal, closes the circuit. A pooler's answer does not, because a
pooler accepts connections while the server behind it hangs.

Note [History]
A promoted standby begins a new timeline. The old primary may still live, or come back, on the old one: what it sells is sold twice. So
each process remembers the latest timeline that a connection has found, uses no connection from before it, and refuses a server on an
earlier one. A database with another identifier, such as a restored dump, is another history. That protects a process from going back;
it does not stop a process that never met the promoted server. Only fencing, or a synchronous standby, does.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

PAUSE_SECONDS = 0.5
# A try that fails after this time got no answer: it holds up its caller.
SLOW_SECONDS = 1


class CircuitBreaker:
    """The circuit breaker of one process.

    :ivar generation: counts the hangs and the promotions. A connection from before is not used again.
    """

    def __init__(self) -> None:
        self.generation = 0
        self._timelines: dict[str, str] = {}
        self._is_open = False
        self._is_probed = False
        self._probe_due_at = 0.0
        self._lock = threading.Lock()

    def record_hang(self, generation: int) -> None:
        """Open the circuit, because a connection of this generation got no answer. The next caller may connect at once."""
        with self._lock:
            if generation == self.generation:
                self.generation += 1
                self._is_open, self._probe_due_at = True, 0.0

    def record_history(self, system: str, timeline: str) -> int:
        """Record what a new connection has found. See Note [History].

        :param system: the identifier of the database system, which all its standbys share.
        :param timeline: eight hexadecimal digits; empty for a standby, which writes none.
        :returns: the generation of the connection.
        :raises psycopg.OperationalError: this process has found a later timeline.
        """
        with self._lock:
            latest = self._timelines.setdefault(system, timeline)
            if timeline > latest:
                self._timelines[system] = timeline
                self.generation += 1
            elif timeline and timeline < latest:
                message = f"the server is on timeline {timeline}, and another one was promoted to {latest}: it must not be written to"
                raise psycopg.OperationalError(message)
            return self.generation

    @contextmanager
    def connecting(self) -> Iterator[None]:
        """Let the block connect, if this caller may. Its end decides whether the circuit is open.

        :raises psycopg.OperationalError: the circuit is open, and another caller tries or the pause is not over; or the block failed.
        """
        with self._lock:
            if self._is_open:
                if self._is_probed or time.monotonic() < self._probe_due_at:
                    message = "the database did not answer just now"
                    raise psycopg.OperationalError(message)
                self._is_probed = True
        began, failed = time.monotonic(), False
        try:
            yield
        except psycopg.OperationalError:
            failed = True
            raise
        finally:
            ended = time.monotonic()
            with self._lock:
                self._is_probed = False
                self._is_open, self._probe_due_at = failed and ended - began >= SLOW_SECONDS, ended + PAUSE_SECONDS


CIRCUIT_BREAKER = CircuitBreaker()
