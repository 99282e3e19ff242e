"""The processes of the server: starts the workers, replaces those that end or are stopped, ends all on one signal."""

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

log = structlog.get_logger("basket_project.http_server")

# A statement is cut after 10 s by the database: what still runs after this is not going to answer.
STOP_SECONDS = 12
BACKLOG = 1024
# A worker that is found stopped twice, this long apart, is killed. A short stop of the whole service changes nothing.
_LOOK_SECONDS = 0.5
_RETRY_SECONDS = 1

Serve = Callable[[socket.socket, Callable[[], None], int], None]


@dataclass(eq=False)
class _Child:
    """One process.

    :param pipe: reads one byte when the worker is ready.
    """

    pid: int
    pipe: int
    ready: bool = False
    stopped: bool = False


@dataclass(eq=False)
class _Slot:
    """A place for one worker, with its listening socket; while a worker is being replaced, it has two."""

    number: int
    listener: socket.socket
    children: list[_Child] = field(default_factory=list)
    not_before: float = 0.0


class Supervisor:
    """The main process.

    # Note [Who gets a new connection]
    # Where all workers accept from one socket, the one that is awake takes what has come: of 8 callers that arrive
    # together, one of two workers mostly gets all, and a second core stays idle. So on Linux each worker has a socket of its
    # own, and the kernel spreads connections over them. It does so blindly: those of a worker that is dead or stopped
    # wait. So the sockets belong to the main process, and the next worker in that place answers those that wait. No
    # other worker keeps them open: when the service ends, new callers are refused and do not wait.

    :param serve: serves a listening socket in a new process: gets the socket, what to call when it is ready, and a descriptor that
        can be read when the supervisor is gone.
    :param on_end: called with the process number of each worker that has ended.
    """

    def __init__(self, *, host: str, port: int, workers: int, serve: Serve, on_end: Callable[[int], None]) -> None:
        self._serve = serve
        self._on_end = on_end
        self._slots = [_Slot(number, listener) for number, listener in enumerate(_listeners(host, port, workers), start=1)]
        self._selector = selectors.DefaultSelector()
        self._wake_reader, self._wake_writer = socket.socketpair()
        # The workers have the reading end, this process alone the writing end.
        self._alive_reader, self._alive_writer = os.pipe()
        self._to_replace: deque[_Slot] = deque()
        self._stopping = False
        self._failed = False
        self._were_ready = False

    def run(self, *, lifeline: int | None) -> int:
        """Keep the workers running until a signal ends the service; returns the exit status.

        :param lifeline: a descriptor whose other end closes when the service must end; None: there is none.
        """
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._stop())
        signal.signal(signal.SIGHUP, lambda *_: self._to_replace.extend(self._slots))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake_reader, selectors.EVENT_READ, self._woken)
        if lifeline is not None:
            self._selector.register(lifeline, selectors.EVENT_READ, lambda: self._cut(lifeline))
        next_look = 0.0
        while not self._stopping:
            self._fill()
            self._replace_next()
            for key, _ in self._selector.select(_LOOK_SECONDS / 2):
                key.data()
            self._reap()
            if (now := time.monotonic()) >= next_look:
                next_look = now + _LOOK_SECONDS
                self._kill_stopped()
        self._end_children()
        return 1 if self._failed else 0

    def _woken(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_reader.recv(4096):
                pass

    def _stop(self) -> None:
        self._stopping = True

    def _cut(self, lifeline: int) -> None:
        if not os.read(lifeline, 1):
            self._stop()

    # --- Workers --------------------------------------------------------------------

    def _fill(self) -> None:
        for slot in self._slots:
            if not slot.children and time.monotonic() >= slot.not_before:
                self._start(slot)

    def _replace_next(self) -> None:
        """After SIGHUP: start the successor of one worker at a time."""
        if self._to_replace and all(len(slot.children) == 1 and slot.children[0].ready for slot in self._slots):
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
        self._selector.register(reader, selectors.EVENT_READ, lambda: self._is_ready(slot, child))

    def _become_worker(self, slot: _Slot, ready: int) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the supervisor decides.
            self._selector.close()
            os.close(self._alive_writer)
            for other in self._slots:
                if other.listener is not slot.listener:
                    other.listener.close()

            def on_ready() -> None:
                os.write(ready, b"1")
                os.close(ready)
                log.info("worker_started", worker=slot.number)

            self._serve(slot.listener, on_ready, self._alive_reader)
            status = 0
        except BaseException as error:
            if not isinstance(error, SystemExit):
                # The sentence of a setting that is refused; it never quotes a secret.
                reason = str(error) if type(error).__name__ == "ImproperlyConfigured" else None
                log.exception("worker_failed", worker=slot.number, reason=reason)
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os._exit(status)

    def _is_ready(self, slot: _Slot, child: _Child) -> None:
        child.ready = os.read(child.pipe, 1) == b"1"
        self._forget_pipe(child)
        if child.ready:
            self._were_ready = True
            for former in slot.children[: slot.children.index(child)]:
                _signal(former.pid, signal.SIGTERM)

    def _forget_pipe(self, child: _Child) -> None:
        if child.pipe >= 0:
            self._selector.unregister(child.pipe)
            os.close(child.pipe)
            child.pipe = -1

    def _reap(self) -> None:
        for slot in self._slots:
            for child in list(slot.children):
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._ended(slot, child, os.waitstatus_to_exitcode(status))

    def _ended(self, slot: _Slot, child: _Child, code: int) -> None:
        self._forget_pipe(child)
        slot.children.remove(child)
        self._on_end(child.pid)
        if self._stopping:
            return
        log.log(20 if code == 0 else 40, "worker_ended", worker=slot.number, code=code)
        # One that was ready is replaced at once. One that ends before may do so again, and is tried again slowly; where it failed
        # by itself (a negative code is a signal) at the start of the service, that ends the service.
        if not child.ready:
            slot.not_before = time.monotonic() + _RETRY_SECONDS
            if code > 0 and not self._were_ready:
                self._failed = True
                self._stop()

    def _kill_stopped(self) -> None:
        """Kill workers that stay stopped, as by SIGSTOP: no other worker answers the callers at their sockets."""
        for slot in self._slots:
            for child in slot.children:
                stopped = _is_stopped(child.pid)
                if stopped and child.stopped:
                    _signal(child.pid, signal.SIGKILL)
                child.stopped = stopped

    def _end_children(self) -> None:
        for slot in self._slots:
            slot.listener.close()
            for child in slot.children:
                _signal(child.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        while any(slot.children for slot in self._slots):
            self._selector.select(0.05)
            self._woken()
            self._kill_stopped()
            if time.monotonic() > deadline:
                for slot in self._slots:
                    for child in slot.children:
                        _signal(child.pid, signal.SIGKILL)
            self._reap()


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


def _listeners(host: str, port: int, workers: int) -> list[socket.socket]:
    """Open one listening socket for each worker on Linux; elsewhere the same for all."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    each = sys.platform == "linux"
    made = [socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=each) for _ in range(workers if each else 1)]
    return made if each else made * workers
