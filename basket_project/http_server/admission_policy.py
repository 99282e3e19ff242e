"""What the server asks the application about a request before it gets a thread."""

from typing import Protocol

from basket_project.http_server.requests import Head
from basket_project.http_server.responses import Headers


class AdmissionPolicy(Protocol):
    """The application's decisions about requests before they get a thread.

    :ivar priorities: number of priorities, of requests and of probes.
    """

    priorities: int

    def immediate_response(self, head: Head) -> tuple[int, Headers, bytes] | None:
        """Return the response to a request that never waits. Called again for a probe that has waited, in its thread.

        :returns: status, headers and body; None for all other requests.
        """

    def priority(self, head: Head) -> int:
        """Return the priority of a request, 0 first."""

    def is_probe(self, head: Head) -> bool:
        """Return whether a request is a probe, which has a separate thread and queue."""

    def body_limit(self, head: Head) -> int:
        """Return how many bytes of a body the application accepts."""

    def error_response(self, reason: str, head: Head | None) -> tuple[int, Headers, bytes]:
        """Return the response to a refused request, and record it.

        :returns: status, headers and body.
        """

    def record_wait(self, seconds: float) -> None:
        """Record how long a request waited for its thread."""

    def observe(self, *, queued: int, busy: int, in_flight: int, connections: int) -> None:
        """Record the current load of this worker.

        :param in_flight: the connections whose request has no response yet.
        """

    def announce_end(self) -> None:
        """Report from now on that this process is about to end. Called more than once."""

    def end_thread(self) -> None:
        """Release the resources of the current thread."""
