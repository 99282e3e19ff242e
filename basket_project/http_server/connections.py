"""One connection: its bytes, its phase and its deadline. `Connection` says which thread may change which of them."""

import math
import socket
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from basket_project.http_server.requests import ChunkedBody, Head


class Phase(IntEnum):
    """What a connection is doing. The order is that in which connections are given up when there are too many."""

    LINGERING = 0  # Answered for the last time; what still comes is thrown away.
    IDLE = 1
    HEAD = 2
    BODY = 3
    SENDING = 4  # The rest of an answer waits until the caller reads.
    BUSY = 5  # Its call is queued, or has a thread.


class Connection:
    """A connection belongs to the event loop, but for its answer.

    # Note [Who touches a connection]
    # The event loop alone reads, closes and changes the phase, with one exception: while the phase is BUSY, the thread that has
    # the call sends the answer, and then sets IDLE. In that time the event loop only appends to `inbox`, or sets `gone` or
    # `paused`, and looks at the phase afterwards; the thread sets the phase and looks at these afterwards. So at least one
    # of them sees what the other did, and nothing stays unread.
    #
    # As soon as the thread has set IDLE, the event loop may read the next request and begin the next turn. What the thread
    # hands back later belongs to a turn that is over: each hand-over names its turn, and only the current one counts.
    """

    __slots__ = (
        "address",
        "body",
        "deadline",
        "gone",
        "head",
        "held",
        "inbox",
        "keep",
        "linger",
        "moved",
        "outbox",
        "paused",
        "phase",
        "scanned",
        "since",
        "sock",
        "turn",
    )

    def __init__(self, sock: socket.socket, address: tuple[str, int], deadline: float) -> None:
        self.sock = sock
        self.address = address
        self.phase = Phase.IDLE
        self.deadline = deadline
        self.inbox = bytearray()
        self.scanned = 0  # How much of the inbox holds no end of a head.
        self.head: Head | None = None
        self.body: ChunkedBody | None = None
        self.outbox = memoryview(b"")
        self.since = 0.0  # When the body, or the rest of the answer, began.
        self.moved = 0  # Bytes of it that have come, or gone.
        self.held = 0  # Bytes of it that count for the worker's bound.
        self.keep = True  # Another request may follow.
        self.linger = False  # The caller may still be sending when it is answered.
        self.gone = False  # The caller has hung up.
        self.paused = False  # Nothing more is read before the call is answered.
        self.turn = 0  # How many answers have begun.

    def busy(self) -> None:
        """Wait for a thread, however long."""
        self.turn += 1
        self.deadline = math.inf
        self.phase = Phase.BUSY

    def unfinished(self) -> bool:
        """Tell whether the event loop must look at the connection, after an answer was sent."""
        return self.phase is Phase.BUSY or bool(self.inbox) or self.gone or self.paused
