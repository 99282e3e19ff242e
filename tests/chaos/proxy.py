"""A proxy in front of the database, which can be frozen or cut."""

import contextlib
import select
import socket
import threading


class Proxy:
    """Forwards one port of loopback to the database. A frozen one accepts connections and forwards nothing, like a stopped server.

    :ivar thawed: whether it forwards.
    :ivar freezes_after: it freezes after it has forwarded this to the server.
    :ivar accepted: how many connections it accepted.
    """

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.thawed = threading.Event()
        self.thawed.set()
        self.freezes_after = b""
        self.accepted = 0
        self._sockets: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a closed socket has no descriptor.
            while True:
                client, _ = self._listener.accept()
                self.accepted += 1
                self._sockets.append(client)
                threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), client:
            self.thawed.wait()
            with socket.create_connection(self._target) as server:
                self._sockets.append(server)
                self._forward_both_ways(client, server)

    def _forward_both_ways(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            for readable in select.select([client, server], [], [])[0]:
                self.thawed.wait()
                data = readable.recv(65536)
                if not data:
                    return
                if readable is client:
                    server.sendall(data)
                    if self.freezes_after and self.freezes_after in data:
                        self.thawed.clear()
                else:
                    self.thawed.wait()
                    client.sendall(data)

    def close(self) -> None:
        self.thawed.set()
        for one in self._sockets:
            with contextlib.suppress(OSError, ValueError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
