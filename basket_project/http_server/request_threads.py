"""The threads that run the application, one whole request at a time, and the two queues in front of them: requests and probes."""

import contextlib
import functools
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import structlog

from basket_project.http_server.admission_policy import AdmissionPolicy
from basket_project.http_server.request_queue import QueuedRequest, RequestQueue
from basket_project.http_server.response_writer import ResponseWriter
from basket_project.http_server.responses import Application, StartResponse, build_environ
from basket_project.http_server.return_queue import ReturnQueue
from basket_project.http_server.suspension import ENVIRON_KEY as SUSPENSION_KEY
from basket_project.http_server.suspension import Suspension

log = structlog.get_logger("basket_project.http_server")

# After a longer wait in the queue, a thread checks again whether the client has disconnected.
_PEEK_SECONDS = 0.01


class RequestThreads:
    """Threads and their queues. The event loop puts requests in; a thread answers each, and hands back connections that need the loop.

    :param base: the part of the WSGI environment that all requests share.
    :param number: threads beside the one for probes.
    :param queue_length: number of requests that may wait, and of probes.
    :param queue_seconds: how long a request may wait.
    :param refused: numbers of requests without a response by reason; counted here if the client has hung up.
    """

    def __init__(
        self,
        application: Application,
        policy: AdmissionPolicy,
        writer: ResponseWriter,
        returned: ReturnQueue,
        *,
        base: dict[str, Any],
        number: int,
        queue_length: int,
        queue_seconds: float,
        refused: Counter[str],
    ) -> None:
        self._application = application
        self._policy = policy
        self._writer = writer
        self._returned = returned
        self._base = base
        self._refused = refused
        self._requests, self._probes = (
            RequestQueue(priorities=policy.priorities, length=queue_length, seconds=queue_seconds) for _ in range(2)
        )
        self._threads_of = {self._requests: number, self._probes: 1}
        self._busy: set[int] = set()  # Identifiers of threads that handle a request.
        self._suspended: set[Suspension] = set()

    @property
    def queued(self) -> int:
        """The number of requests that wait, without probes."""
        return len(self._requests)

    @property
    def busy(self) -> int:
        """The number of threads that handle a request."""
        return len(self._busy)

    def put(self, request: QueuedRequest, *, is_probe: bool) -> QueuedRequest | None:
        """Queue a request; returns the one to refuse because the queue is full, or None."""
        return (self._probes if is_probe else self._requests).put(request)

    def wake(self) -> None:
        """Let threads take what was put; see `RequestQueue.wake_threads`."""
        self._requests.wake_threads()
        self._probes.wake_threads()

    def pop_late(self, now: float) -> list[QueuedRequest]:
        """Remove and return the requests that have waited too long.

        :param now: the time of `time.monotonic()`.
        """
        return [*self._requests.pop_late(now), *self._probes.pop_late(now)]

    def requeue(self, request: QueuedRequest) -> QueuedRequest | None:
        """Queue a request that was suspended; returns as `put`."""
        if request.suspension:
            self._suspended.discard(request.suspension)
        request.queued_at = time.monotonic()
        return self._requests.put(request)

    def resume_all(self) -> None:
        """Let all suspended requests be handled again. Set `stopping` of the writer first, so that no more are suspended."""
        for suspension in list(self._suspended):
            suspension.resume()

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """Run the threads during the block."""
        threads = [
            threading.Thread(target=self._handle_requests, args=(queue,), name="requests", daemon=True)
            for queue, number in self._threads_of.items()
            for _ in range(number)
        ]
        for thread in threads:
            thread.start()
        yield
        for queue, number in self._threads_of.items():
            queue.close(number)
        for thread in threads:
            thread.join()

    def _handle_requests(self, queue: RequestQueue) -> None:
        name, handle = threading.get_ident(), self._handle_probe if queue is self._probes else self._handle_request
        while request := queue.get():
            self._busy.add(name)
            handle(request)
            self._busy.discard(name)
        self._policy.end_thread()

    def _handle_probe(self, request: QueuedRequest) -> None:
        """Handle a probe, unless the one before it has made the response known."""
        if response := self._policy.immediate_response(request.head):
            self._writer.respond(request.connection, request.head, *response)
        else:
            self._handle_request(request)

    def _handle_request(self, request: QueuedRequest) -> None:
        connection, head = request.connection, request.head
        waited = time.monotonic() - request.queued_at
        self._policy.record_wait(waited)
        if connection.peer_closed or (waited > _PEEK_SECONDS and _has_disconnected(connection.sock)):
            self._refused["hung_up"] += 1
            connection.keep_alive = False
            self._returned.put_connection(connection, request.generation)
            return
        body: Any = ()
        try:
            start_response = StartResponse()
            environ = build_environ(request, self._base)
            if not self._writer.stopping:
                requeue = functools.partial(self._returned.put_request, request)
                request.suspension = environ[SUSPENSION_KEY] = request.suspension or Suspension(connection, requeue)
            body = self._application(environ, start_response)
            if request.suspension and request.suspension.is_suspended:
                self._park(request.suspension, body)
                return
            response, keep = self._writer.render(connection, head, start_response.status, start_response.headers, b"".join(body))
        except Exception:  # The thread must survive.
            log.exception("application_failed")
            response, keep = self._writer.render(connection, head, *self._policy.error_response("internal_error", head))
        self._writer.send(connection, response, keep=keep, generation=request.generation)
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
        if self._writer.stopping:  # Read after the addition: the event loop sets it before it resumes what is there.
            suspension.resume()
        suspension.park()


def _has_disconnected(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except (BlockingIOError, InterruptedError):
        return False
    except OSError:
        return True
