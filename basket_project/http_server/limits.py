"""The bounds of the server: sizes, deadlines and lengths. The values come from the settings."""

from dataclasses import dataclass

KIB = 1024


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every bound of one worker.

    :param target_bytes: length of the request target (path and query).
    :param head_bytes: length of all header fields together.
    :param header_bytes: length of one header value that has no bound in `own`.
    :param own: the bounds of single headers, by their WSGI name.
    :param head_seconds: time from the first byte of a request to the end of its head.
    :param body_seconds: grace for a body and for an answer; beyond it, `bytes_per_second` decides.
    :param bytes_per_second: the least speed at which a caller sends a body or reads an answer.
    :param idle_seconds: how long a connection without a request stays open.
    :param connections: open connections of one worker.
    :param held_bytes: unfinished bodies and unsent answers of one worker together.
    :param queue_length: calls that wait for a thread of one worker.
    :param queue_seconds: how long a call waits for a thread.
    :param drain_seconds: how long kept connections stay open after SIGTERM, for a last call.
    """

    target_bytes: int = 64 * KIB
    head_bytes: int = 32 * KIB
    header_bytes: int = 4 * KIB
    own: dict[str, int]
    head_seconds: float = 5
    body_seconds: float = 5
    bytes_per_second: int = 4 * KIB
    idle_seconds: float = 75
    connections: int = 8192
    held_bytes: int = 64 * KIB * KIB
    queue_length: int = 256
    queue_seconds: float = 1
    drain_seconds: float = 1


HEADER_FIELDS = 100
# Framing of a chunked body, beside its data: some thousands of chunks.
CHUNK_OVERHEAD_BYTES = 16 * KIB
