"""One worker: an event loop that reads whole requests, and threads that run the application. No caller holds a thread by being slow.

The main thread is the event loop. It accepts, reads, refuses, and puts whole requests into a queue; threads take them from
there, run the application, and send the answer. What a caller does not read at once is sent by the event loop.
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

from basket_project.http_server.answers import CONTINUE, Application, Headers, StartResponse, base_environ, build_environ, render_response
from basket_project.http_server.call_queue import QueuedRequest, RequestQueue
from basket_project.http_server.connections import Connection, Phase
from basket_project.http_server.limits import Limits
from basket_project.http_server.requests import EMPTY_LINES, END_OF_HEAD, BadRequest, ChunkedBody, Head, parse_head

log = structlog.get_logger("basket_project.http_server")

_READ_BYTES = 64 * 1024
_ACCEPTED_AT_ONCE = 64
_ACCEPTS_AT_END = 64
# Before a call is answered, this much of the next ones is read.
_AHEAD_BYTES = 64 * 1024
_TICK_SECONDS = 0.25
# A caller that is refused while it sends gets this long, and this many bytes, to see the answer.
_LINGER_SECONDS = 5
_LINGER_BYTES = 16 * 1024 * 1024
# At the bound, this part of the connections is given up at once, so that looking for the oldest is rare.
_GIVEN_UP_PART = 64
# A hang-up is looked for once more where a call waited for longer than this.
_PEEK_SECONDS = 0.01
_PROBES_WAITING = 16


class AdmissionPolicy(Protocol):
    """What the server asks of the application beside WSGI."""

    priorities: int

    def immediate_response(self, head: Head) -> tuple[int, Headers, bytes] | None:
        """Answer what never waits; None for everything else."""

    def priority(self, head: Head) -> int | None:
        """Rank a call, 0 first; None for a probe, which has a thread to itself."""

    def body_limit(self, head: Head) -> int:
        """Tell how many bytes of a body the application takes."""

    def error_response(self, reason: str, head: Head | None) -> tuple[int, Headers, bytes]:
        """Answer in place of the application, and record it."""

    def record_wait(self, seconds: float) -> None:
        """Record how long a call waited for its thread."""

    def observe(self, *, queued: int, busy: int, connections: int) -> None:
        """Record what this worker has at this moment."""

    def end_thread(self) -> None:
        """Let go of what a thread kept."""


class Worker:
    """Serves one listening socket until SIGTERM."""

    def __init__(self, listener: socket.socket, application: Application, front: AdmissionPolicy, *, threads: int, limits: Limits) -> None:
        self._listener = listener
        self._application = application
        self._front = front
        self._limits = limits
        self._base = base_environ(*listener.getsockname()[:2])
        self._selector = selectors.DefaultSelector()
        self._connections: dict[Connection, None] = {}
        self._queue = RequestQueue(priorities=front.priorities, length=limits.queue_length)
        self._probes = RequestQueue(priorities=1, length=_PROBES_WAITING)
        self._lanes = [(self._queue, threads), (self._probes, 1)]
        self._running: set[int] = set()  # Threads that have a call.
        self._posted: deque[tuple[Connection, int]] = deque()  # Connections that are handed back, each with its turn.
        self._awake = False
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._held = 0
        self._date = ""
        self._next_tick = 0.0
        self._next_second = 0.0
        self._refused: Counter[str] = Counter()
        self._given_up = 0
        self._signalled = False
        self._stopping_since: float | None = None

    # --- The loop -------------------------------------------------------------------

    def run(self, *, on_ready: Callable[[], None], supervisor: int) -> None:
        """Serve until SIGTERM or SIGINT, or until the supervisor is gone.

        :param on_ready: called once, when the first call can be answered.
        :param supervisor: descriptor that can be read when the supervisor is gone.
        """
        for reader in (self._listener, self._wake_reader, self._wake_writer):
            reader.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._take_posted)
        self._selector.register(supervisor, selectors.EVENT_READ, lambda: self._stop_without(supervisor))
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "_signalled", True))
        with self._threads():
            self._tick(time.monotonic())
            on_ready()
            self._loop()

    @contextlib.contextmanager
    def _threads(self) -> Iterator[None]:
        """Run the threads for as long as the block."""
        threads = [
            threading.Thread(target=self._serve_calls, args=(queue,), name="calls", daemon=True)
            for queue, number in self._lanes
            for _ in range(number)
        ]
        for thread in threads:
            thread.start()
        yield
        for queue, number in self._lanes:
            queue.close(number)
        for thread in threads:
            thread.join()

    def _loop(self) -> None:
        while not self._is_done():
            for key, _ in self._selector.select(_TICK_SECONDS):
                if isinstance(key.data, Connection):
                    self._guard(key.data, self._handle)
                else:
                    key.data()
            if self._signalled and self._stopping_since is None:
                self._stop()
            now = time.monotonic()
            if now >= self._next_tick:
                self._tick(now)

    def _handle(self, connection: Connection) -> None:
        # The phase decides, and not the event: a connection that was reset is readable and writable at once.
        if connection.phase is Phase.SENDING:
            self._send_more(connection)
        else:
            self._read(connection)

    def _guard(self, connection: Connection, step: Callable[[Connection], None]) -> None:
        try:
            step(connection)
        except Exception:  # One caller's accident is not that of the others.
            log.exception("connection_failed")
            connection.keep = False
            if connection.phase is not Phase.BUSY:
                self._close(connection)

    def _is_done(self) -> bool:
        return self._stopping_since is not None and not self._connections

    def _stop(self) -> None:
        """Accept nothing more; answer what is there, each answer the last of its connection."""
        for _ in range(_ACCEPTS_AT_END):  # New callers do not delay the end for ever.
            if not self._accept():
                break
        self._selector.unregister(self._listener)
        self._listener.close()
        self._stopping_since = time.monotonic()
        self._next_tick = 0.0

    def _stop_without(self, supervisor: int) -> None:
        self._selector.unregister(supervisor)
        self._signalled = True

    def _tick(self, now: float) -> None:
        """Look at all deadlines."""
        limits = self._limits
        self._next_tick = now + _TICK_SECONDS
        if now >= self._next_second:
            self._next_second = now + 1
            self._each_second()
        for queue in (self._queue, self._probes):
            for call in queue.take_older_than(now - limits.queue_seconds):
                self._refuse_call(call)
        for connection in [each for each in self._connections if each.deadline < now]:
            self._run_out(connection)
        if self._stopping_since is not None and now > self._stopping_since + limits.drain_seconds:
            for connection in [each for each in self._connections if each.phase is Phase.IDLE]:
                self._close(connection)

    def _each_second(self) -> None:
        self._date = formatdate(usegmt=True)
        self._front.observe(queued=len(self._queue), busy=len(self._running), connections=len(self._connections))
        if self._refused:
            log.warning("requests_refused", **self._refused)
            self._refused.clear()
        if self._given_up:
            log.warning("connections_given_up", number=self._given_up)
            self._given_up = 0

    def _run_out(self, connection: Connection) -> None:
        match connection.phase:
            case Phase.HEAD | Phase.BODY:
                self._refuse(connection, "request_timeout")
            case Phase.BUSY:
                pass
            case _:
                self._close(connection)

    # --- Connections ----------------------------------------------------------------

    def _accept(self) -> bool:
        """Accept some of the connections that wait; returns whether there may be more."""
        for _ in range(_ACCEPTED_AT_ONCE):
            if len(self._connections) >= self._limits.connections:
                self._give_up_oldest()
            try:
                sock, address = self._listener.accept()
            except BlockingIOError:
                return False
            except OSError:  # No descriptor is left, or the caller is gone.
                self._give_up_oldest()
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

    def _give_up_oldest(self) -> None:
        """Close the connections that wait for longest: idle ones first, none that has a call."""
        candidates = (each for each in self._connections if each.phase is not Phase.BUSY)
        number = max(1, len(self._connections) // _GIVEN_UP_PART)
        for connection in heapq.nsmallest(number, candidates, key=lambda each: (each.phase, each.deadline)):
            self._given_up += 1
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        if self._connections.pop(connection, self) is self:
            return  # It is closed.
        self._release(connection)
        if not connection.gone and not connection.paused:
            self._selector.unregister(connection.sock)
        connection.sock.close()

    def _hold(self, connection: Connection, size: int) -> None:
        """Count unfinished bytes; where all connections together have too many, those that have most are given up."""
        connection.held += size
        self._held += size
        if self._held <= self._limits.held_bytes:
            return
        holders = [each for each in self._connections if each.held]
        for holder in heapq.nlargest(max(1, len(holders) // _GIVEN_UP_PART), holders, key=lambda each: each.held):
            self._given_up += 1
            self._close(holder)

    def _release(self, connection: Connection) -> None:
        self._held -= connection.held
        connection.held = 0

    # --- Reading --------------------------------------------------------------------

    def _read(self, connection: Connection) -> None:
        if connection.phase is Phase.IDLE and len(connection.inbox) > _AHEAD_BYTES:
            return  # It was handed back: the requests that have come are answered first.
        try:
            data = connection.sock.recv(_READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._hang_up(connection)
            return
        if connection.phase is Phase.LINGERING:
            connection.moved += len(data)
            if connection.moved > _LINGER_BYTES:
                self._close(connection)
            return
        connection.inbox += data
        if connection.phase is not Phase.BUSY:
            self._advance(connection)
        elif len(connection.inbox) > _AHEAD_BYTES:
            self._selector.unregister(connection.sock)
            connection.paused = True
            if connection.phase is not Phase.BUSY:  # See Note [Who touches a connection].
                self._resume(connection)

    def _hang_up(self, connection: Connection) -> None:
        if connection.phase is not Phase.BUSY:
            self._close(connection)
            return
        self._selector.unregister(connection.sock)
        connection.gone = True
        if connection.phase is not Phase.BUSY:
            self._close(connection)

    def _resume(self, connection: Connection) -> None:
        if connection.paused:
            connection.paused = False
            self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Go on with what has come."""
        try:
            if connection.phase is Phase.IDLE:
                self._begin(connection)
            if connection.phase is Phase.HEAD:
                self._read_head(connection)
            if connection.phase is Phase.BODY:
                self._read_body(connection)
        except BadRequest as refused:
            self._refuse(connection, refused.reason)

    def _begin(self, connection: Connection) -> None:
        inbox = connection.inbox
        if inbox.startswith((b"\r", b"\n")) and (empty := EMPTY_LINES.match(inbox)):
            del inbox[: empty.end()]
        if inbox and inbox != b"\r":
            connection.head, connection.scanned = None, 0
            connection.deadline = time.monotonic() + self._limits.head_seconds
            connection.phase = Phase.HEAD

    def _read_head(self, connection: Connection) -> None:
        inbox, limits = connection.inbox, self._limits
        end = END_OF_HEAD.search(inbox, connection.scanned)
        longest = limits.target_bytes + limits.head_bytes
        if end is None or end.start() > longest:
            connection.scanned = max(0, len(inbox) - 2)
            if inbox.find(b"\n", 0, limits.target_bytes) < 0 and len(inbox) > limits.target_bytes:
                raise BadRequest("uri_too_long")
            if len(inbox) > longest:
                raise BadRequest("header_too_large")
            self._hold(connection, len(inbox) - connection.held)
            return
        raw = bytes(inbox[: end.start()])
        del inbox[: end.end()]
        head = connection.head = parse_head(raw.removesuffix(b"\r"), limits)
        connection.keep = head.keep_alive
        limit = self._front.body_limit(head)
        if head.length == 0:
            self._dispatch(connection, head, b"")
        elif head.length is not None and head.length > limit:
            self._dispatch_without_body(connection, head)
        elif head.length is not None and len(inbox) >= head.length:
            self._take_body(connection, head)
        else:
            if head.expects and not inbox:
                with contextlib.suppress(OSError):
                    connection.sock.send(CONTINUE)
            connection.body = ChunkedBody(limit) if head.length is None else None
            connection.since, connection.moved = time.monotonic(), 0
            connection.deadline = connection.since + limits.body_seconds
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
            self._take_body(connection, head)
            return
        else:
            size = waiting
        connection.deadline = connection.since + self._limits.body_seconds + size / self._limits.bytes_per_second
        self._hold(connection, size - connection.held)

    def _take_body(self, connection: Connection, head: Head) -> None:
        body = bytes(connection.inbox[: head.length])
        del connection.inbox[: head.length]
        self._dispatch(connection, head, body)

    # --- Calls ----------------------------------------------------------------------

    def _dispatch_without_body(self, connection: Connection, head: Head) -> None:
        """Let the application refuse a body by its announced length; what still comes is thrown away."""
        connection.keep, connection.linger = False, True
        connection.inbox.clear()
        self._dispatch(connection, head, b"")

    def _dispatch(self, connection: Connection, head: Head, body: bytes) -> None:
        self._release(connection)
        answer, priority = self._front.immediate_response(head), self._front.priority(head)
        connection.busy()
        if answer is not None:
            self._answer(connection, head, *answer)
            return
        queue = self._probes if priority is None else self._queue
        refused = queue.put(QueuedRequest(connection, head, body, priority or 0))
        if refused is not None:
            self._refuse_call(refused)

    def _refuse_call(self, call: QueuedRequest) -> None:
        if call.connection.gone:
            self._refused["hung_up"] += 1
            self._after_answer(call.connection)
            return
        self._refused["overloaded"] += 1
        self._answer(call.connection, call.head, *self._front.error_response("overloaded", call.head))

    def _refuse(self, connection: Connection, reason: str) -> None:
        """Answer what cannot become a call, and end the connection."""
        answer = self._front.error_response(reason, connection.head)
        connection.busy()
        connection.keep, connection.linger = False, True
        self._release(connection)
        connection.inbox.clear()
        self._answer(connection, connection.head, *answer)

    def _answer(self, connection: Connection, head: Head | None, status: int, headers: Headers, body: bytes) -> None:
        """Answer in the event loop."""
        answer, keep = self._write(connection, head, status, headers, body)
        turn = connection.turn
        self._send(connection, answer, keep=keep)
        if connection.unfinished():
            self._post(connection, turn)

    def _serve_calls(self, queue: RequestQueue) -> None:
        """Run the application for call after call, in a thread."""
        name = threading.get_ident()
        while call := queue.take():
            self._running.add(name)
            self._serve(call)
            self._running.discard(name)
        self._front.end_thread()

    def _serve(self, call: QueuedRequest) -> None:
        connection, head = call.connection, call.head
        waited = time.monotonic() - call.queued_at
        self._front.record_wait(waited)
        if connection.gone or (waited > _PEEK_SECONDS and _hung_up(connection.sock)):
            self._refused["hung_up"] += 1
            connection.keep = False
            self._post(connection, call.turn)
            return
        body: Any = ()
        try:
            response = StartResponse()
            body = self._application(build_environ(call, self._base), response)
            answer, keep = self._write(connection, head, response.status, response.headers, b"".join(body))
        except Exception:  # A thread is never lost.
            log.exception("application_failed")
            answer, keep = self._write(connection, head, *self._front.error_response("internal_error", head))
        self._send(connection, answer, keep=keep)
        if connection.unfinished():
            self._post(connection, call.turn)
        try:
            if hasattr(body, "close"):
                body.close()
        except Exception:
            log.exception("application_failed")

    def _write(self, connection: Connection, head: Head | None, status: str | int, headers: Headers, body: bytes) -> tuple[bytes, bool]:
        """Write an answer; returns also whether the connection stays open after it."""
        keep = connection.keep and self._stopping_since is None
        head_only, minor = (head.method == "HEAD", head.minor) if head else (False, 1)
        return render_response(status, headers, body, date=self._date, minor=minor, keep=keep, head_only=head_only), keep

    # --- Answers --------------------------------------------------------------------

    def _send(self, connection: Connection, answer: bytes, *, keep: bool) -> None:
        """Send as much as the caller takes at once; the phase stays BUSY where the event loop must go on."""
        try:
            sent = connection.sock.send(answer)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            sent, keep = len(answer), False
        connection.keep = keep
        if sent < len(answer):
            connection.outbox = memoryview(answer)[sent:]
        elif keep:
            connection.deadline = time.monotonic() + self._limits.idle_seconds
            connection.phase = Phase.IDLE

    def _post(self, connection: Connection, turn: int) -> None:
        """Hand a connection back to the event loop."""
        self._posted.append((connection, turn))
        self._wake()

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with contextlib.suppress(BlockingIOError):
                self._wake_writer.send(b"\0")

    def _take_posted(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass
        self._awake = False
        for _ in range(len(self._posted)):  # What is handed back from now on waits until others were read.
            connection, turn = self._posted.popleft()
            if connection in self._connections and connection.turn == turn:
                self._guard(connection, self._take_back)

    def _take_back(self, connection: Connection) -> None:
        """Go on after an answer, in the event loop."""
        if connection.phase is Phase.BUSY:
            self._finish_answer(connection)
        elif connection.gone:
            self._close(connection)
        else:
            self._resume(connection)

    def _finish_answer(self, connection: Connection) -> None:
        """Go on where a thread has answered, and the rest is left to the event loop."""
        if not connection.outbox or connection.gone:
            self._after_answer(connection)
            return
        connection.since, connection.moved = time.monotonic(), 0
        connection.deadline = connection.since + self._limits.body_seconds
        connection.phase = Phase.SENDING
        if connection.paused:
            connection.paused = False
            self._selector.register(connection.sock, selectors.EVENT_WRITE, connection)
        else:
            self._selector.modify(connection.sock, selectors.EVENT_WRITE, connection)
        self._hold(connection, len(connection.outbox))

    def _send_more(self, connection: Connection) -> None:
        try:
            sent = connection.sock.send(connection.outbox)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._close(connection)
            return
        connection.outbox = connection.outbox[sent:]
        connection.moved += sent
        connection.deadline = connection.since + self._limits.body_seconds + connection.moved / self._limits.bytes_per_second
        if not connection.outbox:
            self._selector.modify(connection.sock, selectors.EVENT_READ, connection)
            self._release(connection)
            self._after_answer(connection)

    def _after_answer(self, connection: Connection) -> None:
        """Wait for the next request, or end the connection so that the caller still reads the answer."""
        if connection.gone:
            self._close(connection)
        elif connection.keep and self._stopping_since is None:
            connection.deadline = time.monotonic() + self._limits.idle_seconds
            connection.phase = Phase.IDLE
            self._resume(connection)
        elif connection.linger or connection.inbox or connection.paused:
            with contextlib.suppress(OSError):
                connection.sock.shutdown(socket.SHUT_WR)
            connection.inbox.clear()
            connection.moved = 0
            connection.deadline = time.monotonic() + _LINGER_SECONDS
            connection.phase = Phase.LINGERING
            if connection.paused:
                connection.paused = False
                self._selector.register(connection.sock, selectors.EVENT_READ, connection)
        else:
            self._close(connection)


def _hung_up(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit of open descriptors towards a number, as far as this account may; returns the limit."""
    import resource  # noqa: PLC0415 (not everywhere)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)
