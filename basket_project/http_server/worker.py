"""One worker process: an event loop that reads whole requests, and threads that run the application. A slow client holds no thread.

The main thread is the event loop. It accepts, reads, refuses, and queues whole requests. Threads take them from the queue, run the
application, and send the response. The event loop sends the part that a client does not read at once.
"""

import math
import selectors
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable
from email.utils import formatdate

import structlog

from basket_project.http_server.admission_policy import AdmissionPolicy
from basket_project.http_server.connection_table import ConnectionTable
from basket_project.http_server.connections import Connection, Phase
from basket_project.http_server.limits import Limits
from basket_project.http_server.request_queue import QueuedRequest
from basket_project.http_server.request_reader import RequestReader
from basket_project.http_server.request_threads import RequestThreads
from basket_project.http_server.requests import Head
from basket_project.http_server.response_writer import ResponseWriter
from basket_project.http_server.responses import Application, base_environ
from basket_project.http_server.return_queue import ReturnQueue
from basket_project.http_server.supervisor import ANNOUNCE, RETIRE

log = structlog.get_logger("basket_project.http_server")

_MAX_ACCEPT_BATCHES_AT_END = 64
_TICK_SECONDS = 0.25


class Worker:
    """Serves one listening socket until a signal ends it."""

    def __init__(self, listener: socket.socket, application: Application, policy: AdmissionPolicy, *, threads: int, limits: Limits) -> None:
        self._listener = listener
        self._policy = policy
        self._limits = limits
        self._selector = selectors.DefaultSelector()
        self._refused: Counter[str] = Counter()
        self._returned = ReturnQueue()
        self._table = ConnectionTable(self._selector, limits)
        self._reader = RequestReader(
            self._table, limits, body_limit=policy.body_limit, on_request=self._dispatch, on_bad_request=self._refuse
        )
        self._writer = ResponseWriter(self._table, self._returned, limits, on_idle=self._reader.resume)
        self._threads = RequestThreads(
            application,
            policy,
            self._writer,
            self._returned,
            base=base_environ(*listener.getsockname()[:2]),
            number=threads,
            queue_length=limits.queue_length,
            queue_seconds=limits.queue_seconds,
            refused=self._refused,
        )
        self._next_tick = 0.0
        self._next_second = 0.0
        self._stop_requested = self._retire_requested = self._announce_requested = False
        self._is_stopping = False
        self._close_idle_at = math.inf

    # --- The loop -------------------------------------------------------------------

    def run(self, *, on_ready: Callable[[], None], supervisor: int) -> None:
        """Serve until SIGTERM, SIGINT or RETIRE, or until the supervisor has ended. See Note [Signals].

        :param on_ready: called once, when the worker accepts requests.
        :param supervisor: file descriptor that becomes readable when the supervisor has ended.
        """
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, lambda: self._table.accept(self._listener))
        self._selector.register(self._returned.reader, selectors.EVENT_READ, self._process_returned)
        self._selector.register(supervisor, selectors.EVENT_READ, lambda: self._on_supervisor_ended(supervisor))
        signal.set_wakeup_fd(self._returned.writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stop_requested", True))
        signal.signal(RETIRE, lambda *_: setattr(self, "_retire_requested", True))
        signal.signal(ANNOUNCE, lambda *_: setattr(self, "_announce_requested", True))
        with self._threads.run():
            self._tick(time.monotonic())
            on_ready()
            self._loop()

    def _loop(self) -> None:
        while self._table or not self._is_stopping:
            self._threads.wake()
            for key, _ in self._selector.select(_TICK_SECONDS):
                if not isinstance(key.data, Connection):
                    key.data()
                elif key.data in self._table:  # An earlier event of the same round may have closed it.
                    self._run_guarded(key.data, self._on_event)
            now = time.monotonic()
            self._obey_signals(now)
            for request in self._threads.pop_late(now):
                self._refuse_queued(request)
            if now >= self._next_tick:
                self._tick(now)

    def _on_event(self, connection: Connection) -> None:
        # The phase decides, not the event: a reset connection is readable and writable.
        if connection.phase is Phase.SENDING:
            self._writer.continue_sending(connection)
        else:
            self._reader.read(connection)

    def _process_returned(self) -> None:
        self._returned.clear_wakeup()
        for request in self._returned.drain_requests():
            if refused := self._threads.requeue(request):
                self._refuse_queued(refused)
        for connection in self._returned.drain_connections():
            if connection in self._table:
                self._run_guarded(connection, self._writer.continue_returned)

    def _run_guarded(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        try:
            step(connection)
        except Exception:  # An error on one connection must not affect the others.
            log.exception("connection_failed")
            connection.keep_alive = False
            if connection.phase is not Phase.BUSY:
                self._table.close(connection)

    def _obey_signals(self, now: float) -> None:
        if self._announce_requested or self._stop_requested:
            self._policy.announce_end()
        if self._stop_requested and self._close_idle_at == math.inf:
            self._close_idle_at = now + self._limits.drain_seconds
        if (self._stop_requested or self._retire_requested) and not self._is_stopping:
            self._stop()

    def _stop(self) -> None:
        """Stop accepting; each open connection gets one last response.

        A retired worker leaves idle connections open until their own deadline: the client may be sending a request just now, and nothing
        waits for the end of this process.
        """
        for _ in range(_MAX_ACCEPT_BATCHES_AT_END):  # A bounded number: new clients must not delay the end for ever.
            if not self._table.accept(self._listener):
                break
        self._selector.unregister(self._listener)
        self._listener.close()
        self._is_stopping = True
        self._writer.stopping = True
        self._next_tick = 0.0
        self._threads.resume_all()

    def _on_supervisor_ended(self, supervisor: int) -> None:
        self._selector.unregister(supervisor)
        self._stop_requested = True

    # --- Deadlines ------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        """Check all deadlines."""
        self._next_tick = now + _TICK_SECONDS
        if now >= self._next_second:
            self._next_second = now + 1
            self._each_second()
        for connection in [each for each in self._table if each.deadline < now]:
            self._on_deadline(connection)
        if now > self._close_idle_at:
            for connection in [each for each in self._table if each.phase is Phase.IDLE]:
                self._table.close(connection)

    def _each_second(self) -> None:
        self._writer.date = formatdate(usegmt=True)
        self._policy.observe(
            queued=self._threads.queued,
            busy=self._threads.busy,
            in_flight=self._table.in_flight,
            connections=len(self._table),
        )
        if self._refused:
            log.warning("requests_refused", **self._refused)
            self._refused.clear()
        if self._table.closed_for_limit:
            log.warning("connections_closed_for_limit", number=self._table.closed_for_limit)
            self._table.closed_for_limit = 0

    def _on_deadline(self, connection: Connection) -> None:
        match connection.phase:
            case Phase.HEAD | Phase.BODY:
                self._refuse(connection, "request_timeout")
            case Phase.BUSY:
                pass
            case _:
                self._table.close(connection)

    # --- Requests -------------------------------------------------------------------

    def _dispatch(self, connection: Connection, head: Head, body: bytes) -> None:
        """Answer a whole request at once, or queue it for a thread."""
        self._table.uncount_buffer(connection)
        response = self._policy.immediate_response(head)
        connection.mark_busy()
        if response is not None:
            self._writer.respond(connection, head, *response)
            return
        request = QueuedRequest(connection, head, body, self._policy.priority(head))
        refused = self._threads.put(request, is_probe=self._policy.is_probe(head))
        if refused is not None:
            self._refuse_queued(refused)

    def _refuse_queued(self, request: QueuedRequest) -> None:
        if request.connection.peer_closed:
            self._refused["hung_up"] += 1
            self._writer.end_response(request.connection)
            return
        self._refused["overloaded"] += 1
        self._writer.respond(request.connection, request.head, *self._policy.error_response("overloaded", request.head))

    def _refuse(self, connection: Connection, reason: str) -> None:
        """Refuse an invalid request, and close the connection."""
        response = self._policy.error_response(reason, connection.head)
        connection.mark_busy()
        connection.keep_alive, connection.linger = False, True
        self._table.uncount_buffer(connection)
        connection.inbox.clear()
        self._writer.respond(connection, connection.head, *response)
