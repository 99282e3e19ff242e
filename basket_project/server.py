"""The process server with its settings, in production and in the demo alike: `.venv/bin/python -m basket_project.server`.

It runs inside the environment; `python3 -m basket_project serve` makes that first and then becomes this. One signal to this process
(SIGTERM or SIGINT) ends the service: requests in flight are finished, then the workers and this process are gone.
"""

import argparse
import contextlib
import os
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import environ
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.mp import MPServer, WorkerProcess

from basket_project.logs import logging_options

APPLICATION = "basket_project.wsgi:application"

# A statement is cut after 10 s by the database, so whatever still runs after this is not going to answer.
_STOP_SECONDS = 12
# Each thread keeps its connection to the database, so it is kept as long as the server allows.
_THREAD_IDLE_SECONDS = 600
# Callers wait in line here instead of being refused: 100 at once are ordinary, 1024 are let in.
_BACKLOG = 1024
# Room for the line and all headers of a request: ids may be long, and a token of 100 KB is answered by the application, not cut off.
_HEAD_BYTES = 416 * 1024


# How a worker ends that somebody or the kernel has ended: told to, or killed. All else is its own failure.
_ENDED_BY_OTHERS = (0, -signal.SIGTERM, -signal.SIGKILL)
# A worker is killed that was seen to be stopped twice, this long apart: not while somebody stops and continues the whole service.
_LOOK_SECONDS = 0.5


class BalancedServer(MPServer):
    """Granian, with new connections dealt out to all workers, that replaces a worker however often it is killed or stopped.

    # Note [Who gets a new connection]
    # Where all workers accept from one socket, whoever is awake first takes what has come: of 8 callers that arrive
    # together, one of two workers mostly gets all, and a second core stays idle. So on Linux each worker has a socket of its
    # own, and the kernel deals connections out among them, by lot. It does so blindly: those of a worker that is dead or stopped
    # wait. So the sockets belong to the main process, and whoever takes the worker's place answers those who wait at it. No
    # other worker keeps them open: when the service ends, new callers are refused and do not wait at a socket nobody accepts from.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listeners: list[tuple[Any, Any]] = []
        os.register_at_fork(after_in_child=self._keep_own_listener)

    def _init_shared_socket(self) -> None:
        super()._init_shared_socket()  # type: ignore[no-untyped-call]
        if self._ssp is None:  # Not on Linux: one socket for all has been made.
            self._listeners = [(self._shd, self._sso)] * self.workers
            return
        for _ in range(self.workers):
            holder = self._ssp.build()
            listener = socket.socket(fileno=holder.get_fd())
            listener.set_inheritable(True)
            self._listeners.append((holder, listener))
        self._ssp = None

    def _drop_shared_socket(self) -> None:
        for _, listener in self._listeners:
            listener.close()

    def _spawn_worker(self, idx: int, target: Any, callback_loader: Any) -> WorkerProcess:  # type: ignore[override] # As `MPServer` has it.
        self._shd, self._sso = self._listeners[idx]
        return super()._spawn_worker(idx, target, callback_loader)

    def _keep_own_listener(self) -> None:
        """Let go of the sockets of the other workers, in a worker just forked. Their numbers stay taken: Granian closes them as well."""
        for _, listener in self._listeners:
            if listener is not self._sso:
                with open(os.devnull, "rb") as nothing:  # noqa: PTH123 (a number is needed, and no path)
                    os.dup2(nothing.fileno(), listener.fileno())

    def _respawn_workers(self, workers: list[int], spawn_target: Any, target_loader: Any, delay: float = 0) -> None:
        """Put others in the place of these workers, and of any that has died meanwhile.

        Granian ends the whole service when a worker dies twice within seconds, which is right for one that fails by itself and
        wrong for one that is killed; and it forgets a worker that dies in the instant in which it takes note of another one.
        """
        killed = [idx for idx in workers if self.wrks[idx].inner.exitcode in _ENDED_BY_OTHERS]
        super()._respawn_workers(workers, spawn_target, target_loader, delay)
        for idx in killed:
            self.respawned_wrks.pop(idx, None)
        for worker in self.wrks:
            if worker.inner.exitcode is not None and worker.idx not in self.interrupt_children:
                self.interrupt_children.append(worker.idx)
                self.main_loop_interrupt.set()

    def watch(self) -> None:
        """Kill workers that are stopped, so that others take their place, until this process is told to end."""
        before: set[int | None] = set()
        while not self.interrupt_signal:
            stopped = [worker.inner for worker in list(self.wrks) if _is_stopped(worker.inner.pid)]
            for worker in stopped:
                if worker.pid in before:
                    worker.kill()
            before = {worker.pid for worker in stopped}
            if self.interrupt_children:  # Granian may forget one that dies while it clears its list.
                self.main_loop_interrupt.set()
            time.sleep(_LOOK_SECONDS)


def _is_stopped(pid: int | None) -> bool:
    """Tell whether a child of this process is stopped, as by SIGSTOP."""
    try:
        return pid is not None and os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # It is gone.
        return False


def _stop_at_once() -> None:
    """Let a worker that is still loading end when it is told to: the handlers it was forked with are the master's, and do nothing in it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end_with(descriptor: int) -> None:
    """End this server when the process at the other end of a pipe is gone: its end of the pipe closes, however it ended."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


@contextlib.contextmanager
def _counts_of_workers() -> Iterator[None]:
    """Give the workers a folder in which each leaves what it counts, so that any of them can tell the sums at `/metrics`."""
    if not os.environ.get("BASKETS_METRICS_TOKEN"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="baskets-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def _problem_of(host: str, port: int) -> str | None:
    """Say why nobody can listen there, if so: Granian would share a port with another service of the same account."""
    if not 0 < port < 65536:
        return f"{port} is no port to listen on: give one from 1 to 65535."
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return f"Nobody can listen on {host}, port {port}: {error.strerror or error}."
    return None


def main(arguments: list[str]) -> None:
    """Serve until a signal ends it."""
    parser = argparse.ArgumentParser(
        prog="python3 -m basket_project serve", description="Serve in production, settings from the environment."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s; one per core)")
    parser.add_argument("--threads", type=int, default=4, help="requests at once in each process (default: %(default)s)")
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if problem := _problem_of(options.host, options.port):
        sys.exit(problem)
    server = BalancedServer(
        APPLICATION,
        address=options.host,
        port=options.port,
        interface=Interfaces.WSGI,
        http=HTTPModes.http1,
        websockets=False,
        workers=options.workers,
        blocking_threads=options.threads,
        blocking_threads_idle_timeout=_THREAD_IDLE_SECONDS,
        backlog=_BACKLOG,
        backpressure=_BACKLOG,
        http1_settings=HTTP1Settings(keep_alive=True, max_buffer_size=_HEAD_BYTES),
        log_dictconfig=logging_options(debug=environ.Env().bool("DJANGO_DEBUG", default=False), named=("_granian",)),
        log_access=False,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
    )
    if sys.platform == "linux":  # Elsewhere nobody waits for a worker that is stopped.
        server.on_startup(lambda: threading.Thread(target=server.watch, name="watch", daemon=True).start())
    if options.lifeline is not None:
        server.on_startup(lambda: _end_with(options.lifeline))
    os.register_at_fork(after_in_child=_stop_at_once)
    with _counts_of_workers():
        server.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
