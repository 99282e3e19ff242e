"""The main process of the server: starts the workers, replaces those that end or are stopped, and ends all on a signal.

# Note [Signals]
# To the main process: SIGTERM and SIGINT end the service, a second one at once; SIGHUP replaces all workers.
# To a worker: ANNOUNCE makes it report that it will end, and changes nothing else; RETIRE lets it answer the connections it has, without
# a hurry, while its successor accepts new ones; SIGTERM ends it within seconds.
"""

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from basket_project.http_server.listeners import Listeners

log = structlog.get_logger("basket_project.http_server")

# The database cancels a statement after 10 s, so a request that runs longer than this will not get a response.
STOP_SECONDS = 12
# A worker that is found stopped in two checks, this far apart, is killed. A short stop of the whole service has no effect.
_CHECK_SECONDS = 0.5
_RETRY_SECONDS = 1
# A new worker that is not ready by then is killed.
_START_SECONDS = 120
ANNOUNCE, RETIRE = signal.SIGUSR1, signal.SIGUSR2

Serve = Callable[[socket.socket, int, int], None]


@dataclass(eq=False)
class _Child:
    """A worker process.

    :param pipe: file descriptor from which one byte can be read when the worker is ready.
    """

    pid: int
    pipe: int
    ready: bool = False
    stopped: bool = False
    retired: bool = False
    started_at: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Slot:
    """The place of one worker, with its listening socket. During a replacement it has two children or more."""

    number: int
    listener: socket.socket
    children: list[_Child] = field(default_factory=list)
    not_before: float = 0.0

    @property
    def is_served(self) -> bool:
        """Whether a worker accepts connections, or is about to."""
        return not all(child.retired for child in self.children)

    @property
    def is_accepting(self) -> bool:
        """Whether a worker accepts connections now."""
        return any(child.ready and not child.retired and not child.stopped for child in self.children)


class Supervisor:
    """The main process.

    # Note [One processor for each worker]
    # The GIL lets one thread of a worker run at a time. If the threads run on several processors, each hand-over of the GIL wakes
    # another processor, and moves the data of the interpreter into its cache. So on Linux, if there are as many workers as
    # processors, each is bound to one. With any other number the service is probably not alone on the machine, and a bound worker
    # would wait for its processor while another is idle, so none is bound. A thread that wakes must not interrupt one that holds the
    # GIL, because it would only wait for that: so bound workers have the policy SCHED_BATCH. See ADR 72.

    :param serve: serves a listening socket in a new process. Parameters: the socket, a file descriptor for `report_ready`, and one
        that becomes readable when the supervisor has ended.
    :param on_end: called with the process id of each worker that has ended.
    :param delay_seconds: how long the service still serves after a signal to end, while it reports that it is not ready.
    """

    def __init__(
        self, *, host: str, port: int, workers: int, serve: Serve, on_end: Callable[[int], None], delay_seconds: float = 0
    ) -> None:
        self._serve = serve
        self._delay_seconds = delay_seconds
        self._stop_at: float | None = None
        self._on_end = on_end
        self._listeners = Listeners(host, port, workers)
        self._slots = [_Slot(number, listener) for number, listener in enumerate(self._listeners.sockets, start=1)]
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        # Workers hold the reading end; only this process holds the writing end.
        self._alive_reader, self._alive_writer = os.pipe()
        self._to_replace: deque[_Slot] = deque()
        self._stopping = False
        self._failed = False
        self._were_ready = False

    def run(self, *, lifeline: int | None) -> int:
        """Keep the workers running until a signal ends the service.

        :param lifeline: file descriptor of a pipe; the service ends when its other end closes. None for no such pipe.
        :returns: the exit status.
        """
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop_later())
        signal.signal(signal.SIGHUP, lambda *_: self._replace_all())
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._drain_wake_pipe)
        if lifeline is not None:
            self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._on_lifeline(lifeline))
        next_check = 0.0
        while not self._stopping:
            self._start_missing()
            self._replace_next()
            for key, _ in self._selector.select(_CHECK_SECONDS / 2):
                key.data()
            self._reap()
            if (now := time.monotonic()) >= next_check:
                next_check = now + _CHECK_SECONDS
                self._kill_stopped()
                self._kill_slow_starters(now)
            self._listeners.choose([place for place, slot in enumerate(self._slots) if slot.is_accepting])
            if self._stop_at is not None and now >= self._stop_at:
                self._stop()
        self._end_children()
        return 1 if self._failed else 0

    def _drain_wake_pipe(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass

    def _stop(self) -> None:
        self._stopping = True

    def _stop_later(self) -> None:
        """Let balancers learn that the service ends, then stop; at once without a delay, or at the second signal."""
        if self._stop_at is not None or not self._delay_seconds:
            self._stop()
            return
        self._stop_at = time.monotonic() + self._delay_seconds
        self._to_replace.clear()
        for slot in self._slots:
            for child in slot.children:
                self._announce_stop(child)

    def _announce_stop(self, child: _Child) -> None:
        if child.ready and self._stop_at is not None:
            _signal(child.pid, ANNOUNCE)

    def _replace_all(self) -> None:
        """Begin to replace all workers, those too that a former SIGHUP has just started: the program may have changed since."""
        if self._stop_at is None:
            self._to_replace = deque(self._slots)

    def _on_lifeline(self, lifeline: int) -> None:
        if not os.read(lifeline, 1):
            self._stop()

    # --- Workers --------------------------------------------------------------------

    def _start_missing(self) -> None:
        for slot in self._slots:
            if not slot.is_served and time.monotonic() >= slot.not_before:
                self._start(slot)

    def _replace_next(self) -> None:
        """After SIGHUP, start the successor of one worker at a time."""
        if self._to_replace and all(slot.is_served and all(child.ready for child in slot.children) for slot in self._slots):
            self._start(self._to_replace.popleft())

    def _start(self, slot: _Slot) -> None:
        reader, writer = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if not pid:
            self._become_worker(slot, writer)
        os.close(writer)
        child = _Child(pid, reader)
        slot.children.append(child)
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._on_ready(slot, child))

    def _become_worker(self, slot: _Slot, ready: int) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):  # A terminal sends them to the whole process group; only the supervisor reacts.
                signal.signal(number, signal.SIG_IGN)
            self._selector.close()
            os.close(self._alive_writer)
            for other in self._slots:
                if other.listener is not slot.listener:
                    other.listener.close()
            self._bind_to_processor(slot)
            self._serve(slot.listener, ready, self._alive_reader)
            status = 0
        except BaseException as error:
            if not isinstance(error, SystemExit):
                # The message about an invalid setting; it never quotes a secret.
                reason = str(error) if type(error).__name__ == "ImproperlyConfigured" else None
                log.exception("worker_failed", worker=slot.number, reason=reason)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    def _bind_to_processor(self, slot: _Slot) -> None:
        """Bind this process, a worker, and all threads that it starts; see Note [One processor for each worker]."""
        if sys.platform != "linux":
            return
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) == len(self._slots):
            with contextlib.suppress(OSError):  # A sandbox may forbid it, or not know the policy; such a worker is only slower.
                os.sched_setaffinity(0, {processors[slot.number - 1]})
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))

    def _on_ready(self, slot: _Slot, child: _Child) -> None:
        child.ready = os.read(child.pipe, 1) == b"1"
        self._close_pipe(child)
        if child.ready:
            self._were_ready = True
            log.info("worker_started", worker=slot.number, pid=child.pid)
            self._announce_stop(child)
            self._retire(slot.children[: slot.children.index(child)])

    def _retire(self, formers: list[_Child]) -> None:
        """Retire the predecessors of a new worker. One generation of them stays: those that were retired before end now."""
        if all(former.retired for former in formers):
            return  # The new worker replaces one that died.
        for former in formers:
            _signal(former.pid, signal.SIGTERM if former.retired else RETIRE)
            former.retired = True

    def _close_pipe(self, child: _Child) -> None:
        if child.pipe >= 0:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1

    def _reap(self) -> None:
        for slot in self._slots:
            for child in list(slot.children):
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._on_exit(slot, child, os.waitstatus_to_exitcode(status))

    def _on_exit(self, slot: _Slot, child: _Child, code: int) -> None:
        self._close_pipe(child)
        slot.children.remove(child)
        self._on_end(child.pid)
        if self._stopping:
            return
        log.log(20 if code == 0 else 40, "worker_ended", worker=slot.number, pid=child.pid, code=code)
        # A worker that was ready is replaced at once, any other after a pause, because it may fail again. If it failed by itself
        # (a negative code is a signal) before any worker was ready, the service ends.
        if not child.ready:
            slot.not_before = time.monotonic() + _RETRY_SECONDS
            if slot.is_served:  # The successor failed; its predecessor stays, and so do those of the other slots.
                log.error("workers_not_replaced", failed=slot.number)
                self._to_replace.clear()
            if code > 0 and not self._were_ready:
                self._failed = True
                self._stop()

    def _kill_stopped(self) -> None:
        """Kill workers that stay stopped, as by SIGSTOP: no other worker serves the clients that wait at their sockets."""
        for slot in self._slots:
            for child in slot.children:
                stopped = _is_stopped(child.pid)
                if stopped and child.stopped:
                    _signal(child.pid, signal.SIGKILL)
                child.stopped = stopped

    def _kill_slow_starters(self, now: float) -> None:
        for slot in self._slots:
            for child in slot.children:
                if not child.ready and now > child.started_at + _START_SECONDS:
                    log.error("worker_not_ready", worker=slot.number, pid=child.pid)
                    _signal(child.pid, signal.SIGKILL)

    def _end_children(self) -> None:
        for slot in self._slots:
            slot.listener.close()
            for child in slot.children:
                _signal(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(slot.children for slot in self._slots):
            self._selector.select(0.05)
            self._drain_wake_pipe()
            self._kill_stopped()
            if time.monotonic() > deadline:
                for slot in self._slots:
                    for child in slot.children:
                        _signal(child.pid, signal.SIGKILL)
            self._reap()


def report_ready(ready: int) -> None:
    """Report to the supervisor that this worker accepts requests.

    :param ready: the file descriptor that `serve` was given.
    """
    os.write(ready, b"1")
    os.close(ready)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _is_stopped(pid: int) -> bool:
    if sys.platform != "linux":
        return False
    try:
        return os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False
