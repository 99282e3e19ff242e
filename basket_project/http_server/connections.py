"""The state of one connection: buffers, phase and deadline. Its note defines which thread may change which attribute."""

import math
import socket
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from basket_project.http_server.requests import ChunkedBody, Head


class Phase(IntEnum):
    """The phase of a connection. At the connection limit, connections in a lower phase are closed first."""

    LINGERING = 0  # The last response is sent; further input is discarded.
    IDLE = 1
    HEAD = 2
    BODY = 3
    SENDING = 4  # The rest of a response waits for the client to read.
    BUSY = 5  # Its request is queued or being handled.


class Connection:
    """A connection. The event loop owns it, except while a thread responds.

    # Note [Who touches a connection]
    # Only the event loop reads, closes and changes the phase, with one exception: while the phase is BUSY, the handling thread sends
    # the response and then sets IDLE. During that time the event loop only appends to `inbox` or sets `peer_closed` or `paused`, and
    # checks the phase afterwards; the thread sets the phase first and checks these attributes afterwards. So at least one of them
    # sees the other's change, and no input is missed.
    #
    # As soon as the thread has set IDLE, the event loop may read the next request and start the next generation. A connection that
    # the thread hands back later belongs to an old generation: each hand-over names its generation, and only the current one counts.
    """

    __slots__ = (
        "address",
        "body",
        "buffered_bytes",
        "deadline",
        "generation",
        "head",
        "inbox",
        "keep_alive",
        "linger",
        "outbox",
        "paused",
        "peer_closed",
        "phase",
        "scanned_bytes",
        "sock",
        "transfer_started_at",
        "transferred_bytes",
    )

    def __init__(self, sock: socket.socket, address: tuple[str, int], deadline: float) -> None:
        self.sock = sock
        self.address = address
        self.phase = Phase.IDLE
        self.deadline = deadline
        self.inbox = bytearray()
        self.scanned_bytes = 0  # Bytes of the inbox that contain no end of a head.
        self.head: Head | None = None
        self.body: ChunkedBody | None = None
        self.outbox = memoryview(b"")
        self.transfer_started_at = 0.0  # When receiving the body, or sending the rest of the response, began.
        self.transferred_bytes = 0  # Bytes of it received or sent so far.
        self.buffered_bytes = 0  # Bytes of it counted towards the worker's limit.
        self.keep_alive = True  # The connection stays open for another request.
        self.linger = False  # The client may still be sending when the response goes out.
        self.peer_closed = False  # The client has closed its side.
        self.paused = False  # Reading stops until the response is sent.
        self.generation = 0  # Number of requests begun on this connection.

    def mark_busy(self) -> None:
        """Enter the phase BUSY, which has no deadline."""
        self.generation += 1
        self.deadline = math.inf
        self.phase = Phase.BUSY

    def needs_event_loop(self) -> bool:
        """Return whether the event loop must continue with the connection after a response."""
        return self.phase is Phase.BUSY or bool(self.inbox) or self.peer_closed or self.paused
