"""Runs the process server, for production and the demo: `.venv/bin/python -m basket_project.server`.

It needs the environment `.venv`; `python3 -m basket_project serve` creates that and then executes this module. An installed package
runs it as `baskets serve`. On SIGTERM or SIGINT the service finishes the requests in flight and ends. SIGHUP replaces the workers one
by one. `basket_project.http_server` reads and queues the requests.

# Note [A worker is a new program]
# A worker is this module, executed again with `--worker`, so that after SIGHUP it runs nothing but the program on disk. If it were a fork,
# it would combine the modules that the main process loaded with those of another release. The main process and its workers share only
# that option, three file descriptors and the environment: a new release must not change them.
"""

import argparse
import contextlib
import os
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

import environ
import structlog

from basket_project.http_server.limits import Limits, raise_descriptor_limit
from basket_project.http_server.supervisor import Supervisor, report_ready
from basket_project.logs import logging_config
from basket_project.variables import missing_variable
from baskets import tracing

log = structlog.get_logger("basket_project.http_server")

# Every partner's key has the same length; a media type is a few words.
API_KEY_BYTES = 256
CONTENT_TYPE_BYTES = 256
SCHEME_BYTES = len("Bearer ")
# File descriptors of a worker besides client connections: database connections, log, program files.
OTHER_DESCRIPTORS = 256


def read_limits(descriptors: int) -> Limits:
    """Read the limits of a worker from the settings.

    :param descriptors: number of file descriptors that the process may open.
    """
    from django.conf import settings  # noqa: PLC0415 (only workers load Django)

    return Limits(
        target_bytes=settings.BASKETS_TARGET_LIMIT_BYTES,
        head_bytes=settings.BASKETS_HEAD_LIMIT_BYTES,
        header_bytes=settings.BASKETS_HEADER_LIMIT_BYTES,
        headers={
            "HTTP_X_API_KEY": API_KEY_BYTES,
            "CONTENT_TYPE": CONTENT_TYPE_BYTES,
            "HTTP_AUTHORIZATION": SCHEME_BYTES + settings.BASKETS_TOKEN_LIMIT_BYTES,
            "HTTP_X_JAY_TRACKING": settings.BASKETS_TRACKING_LIMIT_BYTES,
        },
        head_seconds=settings.BASKETS_HEAD_SECONDS,
        body_seconds=settings.BASKETS_BODY_SECONDS,
        bytes_per_second=settings.BASKETS_MIN_BYTES_PER_SECOND,
        idle_seconds=settings.BASKETS_IDLE_SECONDS,
        connections=max(1, min(settings.BASKETS_MAX_CONNECTIONS, descriptors - OTHER_DESCRIPTORS)),
        buffered_bytes=settings.BASKETS_HELD_BYTES,
        queue_length=settings.BASKETS_QUEUE_LENGTH,
        queue_seconds=settings.BASKETS_QUEUE_SECONDS,
        drain_seconds=settings.BASKETS_DRAIN_SECONDS,
    )


class WorkerDescriptors(NamedTuple):
    """The file descriptors that a worker inherits, in the order of the option `--worker`.

    :param listener: the listening socket.
    :param ready: for `report_ready`.
    :param supervisor: becomes readable when the supervisor has ended.
    """

    listener: int
    ready: int
    supervisor: int


def _execute_worker(descriptors: WorkerDescriptors, *, threads: int) -> NoReturn:
    """Replace this process, a fork of the main process, by a worker; see Note [A worker is a new program]."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    # `-m` searches the working directory first, which only a checkout needs.
    isolation = [] if Path(__file__).parents[1] == Path.cwd() else ["-P"]
    options = ["--threads", str(threads), "--worker", *map(str, descriptors)]
    os.execv(sys.executable, [sys.executable, *isolation, "-m", "basket_project.server", *options])  # noqa: S606 - intended


def _run_worker(descriptors: WorkerDescriptors, *, threads: int) -> None:
    """Load the application and serve until a signal ends it.

    :raises ImproperlyConfigured: a setting is invalid, or the pooler before the database is unsuitable.
    """
    from basket_project.wsgi import application  # noqa: I001, PLC0415 (loads Django, which the rest needs)
    from baskets.api.admission import Admission  # noqa: PLC0415
    from basket_project.http_server.worker import Worker  # noqa: PLC0415
    from baskets.db.checks import log_findings  # noqa: PLC0415
    from baskets.db.pooler import refuse_unsuitable_pooler  # noqa: PLC0415
    from django.conf import settings  # noqa: PLC0415

    refuse_unsuitable_pooler()
    threading.Thread(target=log_findings, name="database-checks", daemon=True).start()
    limits = read_limits(raise_descriptor_limit(settings.BASKETS_MAX_CONNECTIONS + OTHER_DESCRIPTORS))
    worker = Worker(socket.socket(fileno=descriptors.listener), application, Admission(), threads=threads, limits=limits)
    worker.run(on_ready=lambda: report_ready(descriptors.ready), supervisor=descriptors.supervisor)


def _serve_as_worker(descriptors: WorkerDescriptors, *, threads: int) -> NoReturn:
    """Be a worker; ends the process."""
    status = 1
    try:
        _run_worker(descriptors, threads=threads)
        status = 0
    except Exception as error:
        # The message about an invalid setting; it never quotes a secret.
        reason = str(error) if type(error).__name__ == "ImproperlyConfigured" else None
        log.exception("worker_failed", reason=reason)
    tracing.stop()
    sys.stderr.flush()
    os._exit(status)  # Threads that wait for a database that hangs must not delay the end.


@contextlib.contextmanager
def _metrics_folder() -> Iterator[None]:
    """Create the folder in which workers share their metrics, so that each can report the sums at `/metrics`."""
    if not os.environ.get("BASKETS_METRICS_TOKEN"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="baskets-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


def _mark_worker_dead(pid: int) -> None:
    """Remove the gauges of a worker that has ended from the sums."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415 (reads its folder from the environment on import)

        mark_process_dead(pid)  # type: ignore[no-untyped-call]  # It carries no types.


def _listen_error(host: str, port: int) -> str | None:
    """Return why the address cannot be used, or None. Without this check, SO_REUSEPORT could share the port with another service."""
    if not 0 < port < 65536:
        return f"{port} is not a valid port: use one from 1 to 65535."
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        return f"Cannot listen on {host}, port {port}: {error.strerror or error}."
    return None


def main(arguments: list[str], *, program: str = "python3 -m basket_project serve") -> None:
    """Serve until a signal ends it.

    :param program: the command as its user typed it, for the help.
    """
    parser = argparse.ArgumentParser(prog=program, description="Serve in production, settings from the environment.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s; one per core)")
    parser.add_argument("--threads", type=int, default=4, help="requests at once in each process (default: %(default)s)")
    parser.add_argument("--lifeline", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--worker", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    environment = environ.Env()
    if options.worker:
        logging_config(debug=environment.bool("DJANGO_DEBUG", default=False))
        _serve_as_worker(WorkerDescriptors(*options.worker), threads=options.threads)
    if problem := missing_variable() or _listen_error(options.host, options.port):
        sys.exit(problem)
    if options.workers < 1 or options.threads < 1:
        sys.exit("At least one worker and one thread are needed.")
    delay_seconds = environment.int("BASKETS_SHUTDOWN_DELAY_SECONDS", default=0)
    if delay_seconds < 0:
        sys.exit("BASKETS_SHUTDOWN_DELAY_SECONDS is below zero.")
    logging_config(debug=environment.bool("DJANGO_DEBUG", default=False))

    def serve(listener: socket.socket, ready: int, supervisor: int) -> None:
        _execute_worker(WorkerDescriptors(listener.fileno(), ready, supervisor), threads=options.threads)

    with _metrics_folder():
        service = Supervisor(
            host=options.host,
            port=options.port,
            workers=options.workers,
            serve=serve,
            on_end=_mark_worker_dead,
            delay_seconds=delay_seconds,
        )
        status = service.run(lifeline=options.lifeline)
    sys.exit(status)


if __name__ == "__main__":
    main(sys.argv[1:])
