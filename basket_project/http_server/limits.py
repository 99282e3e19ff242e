"""The limits of the server: sizes, deadlines and lengths. The values come from the settings."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """All limits of one worker.

    :param target_bytes: length of the request target (path and query).
    :param head_bytes: length of all header fields together.
    :param header_bytes: length of one header value without a limit in `headers`.
    :param headers: limits of single headers in bytes, by WSGI name.
    :param head_seconds: seconds from the first byte of a request to the end of its head.
    :param body_seconds: grace for a body and for a response; then `bytes_per_second` applies.
    :param bytes_per_second: minimum speed at which a client sends a body or reads a response.
    :param idle_seconds: seconds that a connection without a request stays open.
    :param connections: open connections of one worker.
    :param buffered_bytes: unfinished bodies and unsent responses of one worker together.
    :param queue_length: requests that may wait for a thread of one worker.
    :param queue_seconds: seconds that a request may wait for a thread.
    :param drain_seconds: seconds that persistent connections stay open after SIGTERM, for a last request.
    """

    target_bytes: int = 64 * KIB
    head_bytes: int = 32 * KIB
    header_bytes: int = 4 * KIB
    headers: dict[str, int]
    head_seconds: float = 5
    body_seconds: float = 5
    bytes_per_second: int = 4 * KIB
    idle_seconds: float = 75
    connections: int = 8192
    buffered_bytes: int = 64 * KIB * KIB
    queue_length: int = 256
    queue_seconds: float = 1
    drain_seconds: float = 1


HEADER_FIELDS = 100
# Framing bytes of a chunked body: some thousands of chunks.
CHUNK_OVERHEAD_BYTES = 16 * KIB


def raise_descriptor_limit(wanted: int) -> int:
    """Raise the limit of open file descriptors towards a number, as far as permitted; returns the limit."""
    import resource  # noqa: PLC0415 (missing on some platforms)

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    return max(soft, target)
