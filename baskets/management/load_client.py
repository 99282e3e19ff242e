"""Sends HTTP requests from many threads over persistent connections, and measures them. Knows nothing of baskets."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus

import urllib3


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request to send.

    :param path: appended to the URL of the service.
    """

    method: str
    path: str
    body: bytes = b""


@dataclass(frozen=True, kw_only=True, slots=True)
class Response:
    """The result of one request.

    :param status: None if no response arrived; `body` then holds the type of the error.
    """

    request: Request
    status: int | None
    body: bytes
    seconds: float

    @property
    def error(self) -> str:
        """The reason for counting the request as failed: the type of the error or a status from 500 on. Empty for success."""
        if self.status is None:
            return self.body.decode(errors="replace")
        return str(self.status) if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else ""


@dataclass(kw_only=True)
class Measurements:
    """The results of many requests.

    :param seconds: from the first request to the last response.
    :param times: of each successful request, in seconds.
    :param failed: how many requests failed, by reason.
    """

    seconds: float = 0
    times: list[float] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def per_second(self) -> float:
        """Successful requests per second."""
        return len(self.times) / self.seconds if self.seconds else 0

    def percentile(self, share: float) -> float:
        """Return the time in milliseconds within which this share of the requests succeeded.

        >>> Measurements(times=[0.001, 0.002, 0.009]).percentile(0.5)
        2.0
        """
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1000 if ordered else 0


def send_all(
    url: str,
    requests: Iterable[Request],
    *,
    clients: int,
    headers: Mapping[str, str],
    timeout_seconds: float,
    on_response: Callable[[Response], None] = lambda _: None,
) -> Measurements:
    """Send all requests. Each client sends its next request when its last one has ended.

    :param url: of the service, with an optional path in front of the service's own.
    :param clients: how many requests run at once.
    :param timeout_seconds: for the connection and for each read.
    :param on_response: called with each response, in one thread at a time.
    """
    remaining, measured, lock = iter(requests), Measurements(), threading.Lock()
    pool = urllib3.connection_from_url(url, maxsize=clients, timeout=timeout_seconds, retries=False, headers={"Accept": "application/json"})
    prefix = (urllib3.util.parse_url(url).path or "").rstrip("/")

    def run_client() -> None:
        while True:
            with lock:
                request = next(remaining, None)
            if request is None:
                return
            response = _send(pool, prefix, request, headers)
            with lock:
                if response.error:
                    measured.failed[response.error] += 1
                else:
                    measured.times.append(response.seconds)
                on_response(response)

    started = time.perf_counter()
    with pool, ThreadPoolExecutor(clients) as executor:
        running = [executor.submit(run_client) for _ in range(clients)]
        for client in running:
            client.result()
    measured.seconds = time.perf_counter() - started
    return measured


def _send(pool: urllib3.HTTPConnectionPool, prefix: str, request: Request, headers: Mapping[str, str]) -> Response:
    content_type = {"Content-Type": "application/json"} if request.body else {}
    started = time.perf_counter()
    try:
        reply = pool.urlopen(
            request.method,
            prefix + request.path,
            body=request.body or None,
            headers={**pool.headers, **headers, **content_type},
            redirect=False,
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        # The error of the connection, which urllib3 wraps, says more.
        name = type(error.__cause__ or error).__name__
        return Response(request=request, status=None, body=name.encode(), seconds=time.perf_counter() - started)
    return Response(request=request, status=reply.status, body=reply.data, seconds=time.perf_counter() - started)
