"""The listening sockets of the workers, and which of them the kernel gives new connections.

# Note [Who gets a new connection]
# If all workers accept from one socket, the worker that is awake takes all waiting connections: of 8 simultaneous
# clients, one of two workers mostly gets all, and the second core stays idle. So on Linux each worker has its own
# socket, and the kernel distributes connections among them. The main process owns the sockets: a connection that waits at the socket
# of a worker that has ended is served by the next worker of that slot. The kernel does not know which worker has ended, is stopped, or
# still starts, so while there is one, a filter chooses among the sockets of the others.
# No other worker keeps a socket open, so when the service ends, new clients are refused at once.
"""

import array
import contextlib
import socket
import struct
import sys
from collections.abc import Collection, Sequence

BACKLOG = 1024
# Linux: `asm-generic/socket.h`, and the instructions of `linux/filter.h` that the filter needs.
_SO_ATTACH_REUSEPORT_CBPF = 51
_LOAD_ABSOLUTE, _MODULO, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x94, 0x15, 0x06
_RANDOM = 0xFFFFF038  # SKF_AD_OFF + SKF_AD_RANDOM: this address holds a random number.


class Listeners:
    """The listening sockets: one for each worker on Linux, one that all share elsewhere.

    :ivar sockets: as many as workers.
    """

    def __init__(self, host: str, port: int, workers: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._are_separate = sys.platform == "linux"
        number = workers if self._are_separate else 1
        opened = [socket.create_server((host, port), family=family, backlog=BACKLOG, reuse_port=self._are_separate) for _ in range(number)]
        self.sockets = opened if self._are_separate else opened * workers
        self._chosen: Collection[int] = range(workers)

    def choose(self, places: Sequence[int]) -> None:
        """Let the kernel give new connections to some of the sockets, at random.

        :param places: their places in `sockets`; all sockets are chosen if empty.
        """
        chosen = places or range(len(self.sockets))
        if not self._are_separate or [*chosen] == [*self._chosen]:
            return
        self._chosen = chosen
        code = array.array("B", _filter_of(chosen))
        address, size = code.buffer_info()
        with contextlib.suppress(OSError):  # Where the kernel has no such filter, a connection waits for the next worker of its slot.
            self.sockets[0].setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, struct.pack("@HP", size // 8, address))


def _filter_of(places: Sequence[int]) -> bytes:
    """Return a program for the kernel (classic BPF) that returns one of the numbers, at random."""
    program = [(_LOAD_ABSOLUTE, 0, 0, _RANDOM), (_MODULO, 0, 0, len(places))]
    for number, place in enumerate(places):
        program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, place)]
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in [*program, (_RETURN, 0, 0, places[0])])
