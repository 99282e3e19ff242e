"""One worker process: an event loop that reads whole requests, and threads that run the application. A slow client holds no thread.

The main thread is the event loop. It accepts, reads, refuses, and queues whole requests. Threads take them from the queue, run the
application, and send the response. The event loop sends the part that a client does not read at once.
"""

import contextlib
import heapq
import selectors
import signal
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any, Protocol

import structlog

from basket_project.http_server.connections import Connection, Phase
from basket_project.http_server.limits import Limits
from basket_project.http_server.request_queue import QueuedRequest, RequestQueue
from basket_project.http_server.requests import EMPTY_LINES, END_OF_HEAD, BadRequest, ChunkedBody, Head, parse_head
from basket_project.http_server.responses import CONTINUE, Application, Headers, StartResponse, base_environ, build_environ, render_response
from basket_project.http_server.suspension import ENVIRON_KEY as SUSPENSION_KEY
from basket_project.http_server.suspension import Suspension

log = structlog.get_logger("basket_project.http_server")

_READ_BYTES = 64 * 1024
_ACCEPT_BATCH = 64
_MAX_ACCEPT_BATCHES_AT_END = 64
# Input read ahead while a request is being handled.
_READ_AHEAD_BYTES = 64 * 1024
_TICK_SECONDS = 0.25
# A client that is refused while it sends has this long, and this many bytes, to read the response.
_LINGER_SECONDS = 5
_LINGER_BYTES = 16 * 1024 * 1024
# At the connection limit, one in this many connections is closed at once, because finding the oldest is expensive.
_CLOSE_FRACTION = 64
# After a longer wait in the queue, a thread checks again whether the client has disconnected.
_PEEK_SECONDS = 0.01
_PROBE_QUEUE_LENGTH = 16


class AdmissionPolicy(Protocol):
    """The application's decisions about requests before they get a thread."""

    priorities: int

    def immediate_response(self, head: Head) -> tuple[int, Headers, bytes] | None:
        """Return the response to a request that never waits; None for all others."""

    def priority(self, head: Head) -> int | None:
        """Return the priority of a request, 0 first; None for a probe, which has a separate thread."""

    def body_limit(self, head: Head) -> int:
        """Return how many bytes of a body the application accepts."""

    def error_response(self, reason: str, head: Head | None) -> tuple[int, Headers, bytes]:
        """Return the response to a refused request, and record it."""

    def record_wait(self, seconds: float) -> None:
        """Record how long a request waited for its thread."""

    def observe(self, *, queued: int, busy: int, connections: int) -> None:
        """Record the current load of this worker."""

    def end_thread(self) -> None:
        """Release the resources of the current thread."""


class Worker:
    """Serves one listening socket until SIGTERM."""

    def __init__(self, listener: socket.socket, application: Application, policy: AdmissionPolicy, *, threads: int, limits: Limits) -> None:
        self._listener = listener
        self._application = application
        self._policy = policy
        self._limits = limits
        self._base = base_environ(*listener.getsockname()[:2])
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Connection, None] = {}
        self._queue = RequestQueue(priorities=policy.priorities, length=limits.queue_length)
        self._probe_queue = RequestQueue(priorities=1, length=_PROBE_QUEUE_LENGTH)
        self._queues = [(self._queue, threads), (self._probe_queue, 1)]
        self._busy_threads: set[int] = set()  # Identifiers of threads that handle a request.
        self._handed_back: deque[tuple[Connection, int]] = deque()  # Connections handed back by threads, each with its generation.
        self._suspended: set[Suspension] = set()
        self._continued: deque[QueuedRequest] = deque()  # Requests that were suspended, to be queued again.
        self._awake = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._buffered_bytes = 0
        self._date = ""
        self._next_tick = 0.0
        self._next_second = 0.0
        self._refused: Counter[str] = Counter()
        self._closed_for_limit = 0
        self._stop_requested = False
        self._stopping_since: float | None = None

    # --- The loop -------------------------------------------------------------------

    def run(self, *, on_ready: Callable[[], None], supervisor: int) -> None:
        """Serve until SIGTERM or SIGINT, or until the supervisor has ended.

        :param on_ready: called once, when the worker accepts requests.
        :param supervisor: file descriptor that becomes readable when the supervisor has ended.
        """
        for reader in (self._listener, self._wake_reader, self._wake_writer):
            reader.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._process_handed_back)
        self._selector.register(supervisor, selectors.EVENT_READ, lambda: self._on_supervisor_ended(supervisor))
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_stop_requested", True))
        with self._threads():
            self._tick(time.monotonic())
            on_ready()
            self._loop()

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """Run the threads during the block."""
        threads = [
            threading.Thread(target=self._handle_requests, args=(queue,), name="requests", daemon=True)
            for queue, number in self._queues
            for _ in range(number)
        ]
        for thread in threads:
            thread.start()
        yield
        for queue, number in self._queues:
            queue.close(number)
        for thread in threads:
            thread.join()

    def _loop(self) -> None:
        while not self._is_done():
            for key, _ in self._selector.select(_TICK_SECONDS):
                if isinstance(key.data, Connection):
                    self._run_guarded(key.data, self._on_event)
                else:
                    key.data()
            if self._stop_requested and self._stopping_since is None:
                self._stop()
            now = time.monotonic()
            if now >= self._next_tick:
                self._tick(now)

    def _on_event(self, connection: Connection) -> None:
        # The phase decides, not the event: a reset connection is readable and writable.
        if connection.phase is Phase.SENDING:
            self._continue_sending(connection)
        else:
            self._read(connection)

    def _run_guarded(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        try:
            step(connection)
        except Exception:  # An error on one connection must not affect the others.
            log.exception("connection_failed")
            connection.keep_alive = False
            if connection.phase is not Phase.BUSY:
                self._close(connection)

    def _is_done(self) -> bool:
        return self._stopping_since is not None and not self._connections

    def _stop(self) -> None:
        """Stop accepting; each open connection gets one last response."""
        for _ in range(_MAX_ACCEPT_BATCHES_AT_END):  # A bounded number: new clients must not delay the end for ever.
            if not self._accept():
                break
        self._selector.unregister(self._listener)
        self._listener.close()
        self._stopping_since = time.monotonic()
        self._next_tick = 0.0
        for suspension in list(self._suspended):
            suspension.resume()

    def _on_supervisor_ended(self, supervisor: int) -> None:
        self._selector.unregister(supervisor)
        self._stop_requested = True

    def _tick(self, now: float) -> None:
        """Check all deadlines."""
        limits = self._limits
        self._next_tick = now + _TICK_SECONDS
        if now >= self._next_second:
            self._next_second = now + 1
            self._each_second()
        for queue in (self._queue, self._probe_queue):
            for request in queue.pop_older_than(now - limits.queue_seconds):
                self._refuse_queued(request)
        for connection in [each for each in self._connections if each.deadline < now]:
            self._on_deadline(connection)
        if self._stopping_since is not None and now > self._stopping_since + limits.drain_seconds:
            for connection in [each for each in self._connections if each.phase is Phase.IDLE]:
                self._close(connection)

    def _each_second(self) -> None:
        self._date = formatdate(usegmt=True)
        self._policy.observe(queued=len(self._queue), busy=len(self._busy_threads), connections=len(self._connections))
        if self._refused:
            log.warning("requests_refused", **self._refused)
            self._refused.clear()
        if self._closed_for_limit:
            log.warning("connections_closed_for_limit", number=self._closed_for_limit)
            self._closed_for_limit = 0

    def _on_deadline(self, connection: Connection) -> None:
        match connection.phase:
            case Phase.HEAD | Phase.BODY:
                self._refuse(connection, "request_timeout")
            case Phase.BUSY:
                pass
            case _:
                self._close(connection)

    # --- Connections ----------------------------------------------------------------

    def _accept(self) -> bool:
        """Accept waiting connections; returns whether there may be more."""
        for _ in range(_ACCEPT_BATCH):
            if len(self._connections) >= self._limits.connections:
                self._close_oldest()
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return False
            except OSError:  # No file descriptor is left, or the client has disconnected.
                self._close_oldest()
                return False
            if len(self._connections) >= self._limits.connections:  # All are busy.
                sock.close()
                continue
            sock.setblocking(False)
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(sock, address, time.monotonic() + self._limits.idle_seconds)
            self._connections[connection] = None
            self._selector.register(sock, selectors.EVENT_READ, connection)
        return True

    def _close_oldest(self) -> None:
        """Close the longest waiting connections: idle ones first, never a busy one."""
        candidates = (each for each in self._connections if each.phase is not Phase.BUSY)
        number = max(1, len(self._connections) // _CLOSE_FRACTION)
        for connection in heapq.nsmallest(number, candidates, key=lambda each: (each.phase, each.deadline)):
            self._closed_for_limit += 1
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection, self) is self:
            return  # Already closed.
        self._uncount_buffer(connection)
        if not connection.peer_closed and not connection.paused:
            self._selector.unregister(connection.sock)
        connection.sock.close()

    def _count_buffer(self, connection: Connection, size: int) -> None:
        """Count buffered bytes; above the limit, close the connections with most."""
        connection.buffered_bytes += size
        self._buffered_bytes += size
        if self._buffered_bytes <= self._limits.buffered_bytes:
            return
        holders = [each for each in self._connections if each.buffered_bytes]
        for holder in heapq.nlargest(max(1, len(holders) // _CLOSE_FRACTION), holders, key=lambda each: each.buffered_bytes):
            self._closed_for_limit += 1
            self._close(holder)

    def _uncount_buffer(self, connection: Connection) -> None:
        self._buffered_bytes -= connection.buffered_bytes
        connection.buffered_bytes = 0

    # --- Reading --------------------------------------------------------------------

    def _read(self, connection: Connection) -> None:
        if connection.phase is Phase.IDLE and len(connection.inbox) > _READ_AHEAD_BYTES:
            return  # Requests already received are handled first.
        try:
            data = connection.sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._on_peer_closed(connection)
            return
        if connection.phase is Phase.LINGERING:
            connection.transferred_bytes += len(data)
            if connection.transferred_bytes > _LINGER_BYTES:
                self._close(connection)
            return
        connection.inbox += data
        if connection.phase is not Phase.BUSY:
            self._advance(connection)
        elif len(connection.inbox) > _READ_AHEAD_BYTES:
            self._selector.unregister(connection.sock)
            connection.paused = True
            if connection.phase is not Phase.BUSY:  # See Note [Who touches a connection].
                self._resume(connection)

    def _on_peer_closed(self, connection: Connection) -> None:
        if connection.phase is not Phase.BUSY:
            self._close(connection)
            return
        self._selector.unregister(connection.sock)
        connection.peer_closed = True
        if connection.phase is not Phase.BUSY:
            self._close(connection)

    def _resume(self, connection: Connection) -> None:
        if connection.paused:
            connection.paused = False
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Parse the received bytes as far as possible."""
        try:
            if connection.phase is Phase.IDLE:
                self._begin_request(connection)
            if connection.phase is Phase.HEAD:
                self._read_head(connection)
            if connection.phase is Phase.BODY:
                self._read_body(connection)
        except BadRequest as refused:
            self._refuse(connection, refused.reason)

    def _begin_request(self, connection: Connection) -> None:
        inbox = connection.inbox
        if inbox.startswith((b"\r", b"\n")) and (empty := EMPTY_LINES.match(inbox)):
            del inbox[: empty.end()]
        if inbox and inbox != b"\r":
            connection.head, connection.scanned_bytes = None, 0
            connection.deadline = time.monotonic() + self._limits.head_seconds
            connection.phase = Phase.HEAD

    def _read_head(self, connection: Connection) -> None:
        inbox, limits = connection.inbox, self._limits
        end = END_OF_HEAD.search(inbox, connection.scanned_bytes)
        longest = limits.target_bytes + limits.head_bytes
        if end is None or end.start() > longest:
            connection.scanned_bytes = max(0, len(inbox) - 2)
            if inbox.find(b"\n", 0, limits.target_bytes) < 0 and len(inbox) > limits.target_bytes:
                raise BadRequest("uri_too_long")
            if len(inbox) > longest:
                raise BadRequest("header_too_large")
            self._count_buffer(connection, len(inbox) - connection.buffered_bytes)
            return
        raw = bytes(inbox[: end.start()])
        del inbox[: end.end()]
        head = connection.head = parse_head(raw.removesuffix(b"\r"), limits)
        connection.keep_alive = head.keep_alive
        limit = self._policy.body_limit(head)
        if head.length == 0:
            self._dispatch(connection, head, b"")
        elif head.length is not None and head.length > limit:
            self._dispatch_without_body(connection, head)
        elif head.length is not None and len(inbox) >= head.length:
            self._consume_body(connection, head)
        else:
            if head.expects_continue and not inbox:
                with contextlib.suppress(OSError):
                    connection.sock.send(CONTINUE)
            connection.body = ChunkedBody(limit) if head.length is None else None
            connection.transfer_started_at, connection.transferred_bytes = time.monotonic(), 0
            connection.deadline = connection.transfer_started_at + limits.body_seconds
            connection.phase = Phase.BODY

    def _read_body(self, connection: Connection) -> None:
        head, inbox, chunks = connection.head, connection.inbox, connection.body
        assert head is not None  # noqa: S101 (for the type alone)
        waiting = len(inbox)
        if chunks is not None:
            whole = chunks.feed(inbox)
            size = len(chunks.data) + len(inbox)
            if whole:
                connection.body = None
                if chunks.too_large:
                    head.headers["CONTENT_LENGTH"] = str(len(chunks.data))
                    head.length = len(chunks.data)
                    self._dispatch_without_body(connection, head)
                else:
                    self._dispatch(connection, head, bytes(chunks.data))
                return
        elif head.length is not None and waiting >= head.length:
            self._consume_body(connection, head)
            return
        else:
            size = waiting
        connection.deadline = connection.transfer_started_at + self._limits.body_seconds + size / self._limits.bytes_per_second
        self._count_buffer(connection, size - connection.buffered_bytes)

    def _consume_body(self, connection: Connection, head: Head) -> None:
        body = bytes(connection.inbox[: head.length])
        del connection.inbox[: head.length]
        self._dispatch(connection, head, body)

    # --- Requests -------------------------------------------------------------------

    def _dispatch_without_body(self, connection: Connection, head: Head) -> None:
        """Queue a request with an oversized body, which the application refuses by its length; the body is discarded."""
        connection.keep_alive, connection.linger = False, True
        connection.inbox.clear()
        self._dispatch(connection, head, b"")

    def _dispatch(self, connection: Connection, head: Head, body: bytes) -> None:
        self._uncount_buffer(connection)
        response, priority = self._policy.immediate_response(head), self._policy.priority(head)
        connection.mark_busy()
        if response is not None:
            self._respond(connection, head, *response)
            return
        queue = self._probe_queue if priority is None else self._queue
        refused = queue.put(QueuedRequest(connection, head, body, priority or 0))
        if refused is not None:
            self._refuse_queued(refused)

    def _refuse_queued(self, request: QueuedRequest) -> None:
        if request.connection.peer_closed:
            self._refused["hung_up"] += 1
            self._after_response(request.connection)
            return
        self._refused["overloaded"] += 1
        self._respond(request.connection, request.head, *self._policy.error_response("overloaded", request.head))

    def _refuse(self, connection: Connection, reason: str) -> None:
        """Refuse an invalid request, and close the connection."""
        response = self._policy.error_response(reason, connection.head)
        connection.mark_busy()
        connection.keep_alive, connection.linger = False, True
        self._uncount_buffer(connection)
        connection.inbox.clear()
        self._respond(connection, connection.head, *response)

    def _respond(self, connection: Connection, head: Head | None, status: int, headers: Headers, body: bytes) -> None:
        """Send a response from the event loop."""
        response, keep = self._render(connection, head, status, headers, body)
        generation = connection.generation
        self._send(connection, response, keep=keep)
        if connection.needs_event_loop():
            self._hand_back(connection, generation)

    def _handle_requests(self, queue: RequestQueue) -> None:
        """Handle requests from a queue; runs in a thread."""
        name = threading.get_ident()
        while request := queue.get():
            self._busy_threads.add(name)
            self._handle_request(request)
            self._busy_threads.discard(name)
        self._policy.end_thread()

    def _handle_request(self, request: QueuedRequest) -> None:
        connection, head = request.connection, request.head
        waited = time.monotonic() - request.queued_at
        self._policy.record_wait(waited)
        if connection.peer_closed or (waited > _PEEK_SECONDS and _has_disconnected(connection.sock)):
            self._refused["hung_up"] += 1
            connection.keep_alive = False
            self._hand_back(connection, request.generation)
            return
        body: Any = ()
        try:
            start_response = StartResponse()
            environ = build_environ(request, self._base)
            if self._stopping_since is None:
                request.suspension = environ[SUSPENSION_KEY] = request.suspension or Suspension(request, self._requeue)
            body = self._application(environ, start_response)
            if request.suspension and request.suspension.is_suspended:
                self._park(request.suspension, body)
                return
            response, keep = self._render(connection, head, start_response.status, start_response.headers, b"".join(body))
        except Exception:  # The thread must survive.
            log.exception("application_failed")
            response, keep = self._render(connection, head, *self._policy.error_response("internal_error", head))
        self._send(connection, response, keep=keep)
        if connection.needs_event_loop():
            self._hand_back(connection, request.generation)
        try:
            if hasattr(body, "close"):
                body.close()
        except Exception:
            log.exception("application_failed")

    def _park(self, suspension: Suspension, body: Any) -> None:
        """Keep a request until the application resumes it, or the server stops. Discards the response."""
        if hasattr(body, "close"):
            body.close()
        self._suspended.add(suspension)
        if self._stopping_since is not None:  # Read after the addition: `_stop` sets it before it resumes what is there.
            suspension.resume()
        suspension.park()

    def _requeue(self, request: QueuedRequest) -> None:
        """Queue a request that was suspended; called in any thread."""
        self._continued.append(request)
        self._wake()

    def _render(self, connection: Connection, head: Head | None, status: str | int, headers: Headers, body: bytes) -> tuple[bytes, bool]:
        """Render a response.

        :returns: its bytes, and whether the connection stays open.
        """
        keep = connection.keep_alive and self._stopping_since is None
        head_only, minor = (head.method == "HEAD", head.minor) if head else (False, 1)
        return render_response(status, headers, body, date=self._date, minor=minor, keep=keep, head_only=head_only), keep

    # --- Responses ------------------------------------------------------------------

    def _send(self, connection: Connection, response: bytes, *, keep: bool) -> None:
        """Send as much as the client accepts at once; the phase stays BUSY if the event loop must continue."""
        try:
            sent = connection.sock.send(response)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent, keep = len(response), False
        connection.keep_alive = keep
        if sent < len(response):
            connection.outbox = memoryview(response)[sent:]
        elif keep:
            connection.deadline = time.monotonic() + self._limits.idle_seconds
            connection.phase = Phase.IDLE

    def _hand_back(self, connection: Connection, generation: int) -> None:
        """Hand a connection back to the event loop."""
        self._handed_back.append((connection, generation))
        self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with contextlib.suppress(BlockingIOError):
                self._wake_writer.send(b"\0")

    def _process_handed_back(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass
        self._awake = False
        for _ in range(len(self._continued)):
            request = self._continued.popleft()
            if request.suspension:
                self._suspended.discard(request.suspension)
            request.queued_at = time.monotonic()
            if refused := self._queue.put(request):
                self._refuse_queued(refused)
        for _ in range(len(self._handed_back)):  # Connections handed back from now on wait for the next round.
            connection, generation = self._handed_back.popleft()
            if connection in self._connections and connection.generation == generation:
                self._run_guarded(connection, self._resume_after_response)

    def _resume_after_response(self, connection: Connection) -> None:
        """Continue after a response, in the event loop."""
        if connection.phase is Phase.BUSY:
            self._finish_response(connection)
        elif connection.peer_closed:
            self._close(connection)
        else:
            self._resume(connection)

    def _finish_response(self, connection: Connection) -> None:
        """Send the rest of a thread's response."""
        if not connection.outbox or connection.peer_closed:
            self._after_response(connection)
            return
        connection.transfer_started_at, connection.transferred_bytes = time.monotonic(), 0
        connection.deadline = connection.transfer_started_at + self._limits.body_seconds
        connection.phase = Phase.SENDING
        if connection.paused:
            connection.paused = False
            self._selector.register(connection.sock, selectors.EVENT_WRITE, connection)
        else:
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        self._count_buffer(connection, len(connection.outbox))

    def _continue_sending(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.outbox)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close(connection)
            return
        connection.outbox = connection.outbox[sent:]
        connection.transferred_bytes += sent
        connection.deadline = (
            connection.transfer_started_at + self._limits.body_seconds + connection.transferred_bytes / self._limits.bytes_per_second
        )
        if not connection.outbox:
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
            self._uncount_buffer(connection)
            self._after_response(connection)

    def _after_response(self, connection: Connection) -> None:
        """Wait for the next request, or close the connection in a way that lets the client read the response."""
        if connection.peer_closed:
            self._close(connection)
        elif connection.keep_alive and self._stopping_since is None:
            connection.deadline = time.monotonic() + self._limits.idle_seconds
            connection.phase = Phase.IDLE
            self._resume(connection)
        elif connection.linger or connection.inbox or connection.paused:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            connection.inbox.clear()
            connection.transferred_bytes = 0
            connection.deadline = time.monotonic() + _LINGER_SECONDS
            connection.phase = Phase.LINGERING
            if connection.paused:
                connection.paused = False
                self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        else:
            self._close(connection)


def _has_disconnected(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit of open file descriptors towards a number, as far as permitted; returns the limit."""
    import resource  # noqa: PLC0415 (missing on some platforms)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)
