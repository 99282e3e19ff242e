"""Whether a transaction may have been committed, judged by the server's replies. The server is a fake that sends given bytes."""

import contextlib
import socket
import struct
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from baskets.db.pipeline import CommitState, PipelineConnection
from baskets.db.statements import Statement
from tests.threads import beside

SYNC = b"S\0\0\0\4"


def message(kind: bytes, content: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(content) + 4) + content


def done(tag: bytes) -> bytes:
    """Return the replies to Parse, Bind, Describe and Execute of a statement without rows."""
    return message(b"1") + message(b"2") + message(b"n") + message(b"C", tag + b"\0")


def error(severity: bytes, sqlstate: bytes) -> bytes:
    return message(b"E", b"S" + severity + b"\0V" + severity + b"\0C" + sqlstate + b"\0Mno\0\0")


GREETING = (
    message(b"R", struct.pack("!I", 0))
    + message(b"S", b"server_version\x0018.0\0")
    + message(b"S", b"client_encoding\0UTF8\0")
    + message(b"S", b"standard_conforming_strings\0on\0")
    + message(b"K", struct.pack("!II", 1, 2))
    + message(b"Z", b"I")
)
BEGUN, UPDATED, COMMITTED, READY = done(b"BEGIN"), done(b"UPDATE 1"), done(b"COMMIT"), message(b"Z", b"I")
FAILED_UPDATE = message(b"1") + message(b"2") + error(b"ERROR", b"23505") + message(b"Z", b"E")


@contextlib.contextmanager
def fake_server(answers: bytes) -> Any:
    """Yield the port of a server for one client: it receives one pipeline, sends these replies, and closes the connection."""

    def serve() -> None:
        client, _ = listening.accept()
        with client:
            client.settimeout(60)
            client.recv(struct.unpack("!I", client.recv(4, socket.MSG_WAITALL))[0] - 4, socket.MSG_WAITALL)
            client.sendall(GREETING)
            received = b""
            while not received.endswith(SYNC):
                received += client.recv(65536)
            client.sendall(answers)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)
        with beside(serve):
            yield listening.getsockname()[1]


@pytest.mark.parametrize(
    ("answers", "may_have_committed", "expected"),
    [
        pytest.param(BEGUN + UPDATED + COMMITTED + READY, True, None, id="all is well"),
        pytest.param(b"", True, None, id="no reply"),
        pytest.param(BEGUN, True, None, id="lost on the way"),
        pytest.param(BEGUN + UPDATED[:-3], True, None, id="lost in the middle of an answer"),
        pytest.param(error(b"FATAL", b"57P01"), False, "57P01", id="ended by the server before it began"),
        pytest.param(BEGUN + error(b"FATAL", b"25P03"), False, "25P03", id="ended by the server on the way"),
        pytest.param(BEGUN + error(b"FATAL", b"08P01"), True, "08P01", id="a pooler has lost the server"),
        pytest.param(BEGUN + b"C\0\0\0\1xxxxx", True, None, id="a malformed reply"),
        pytest.param(BEGUN + UPDATED + error(b"FATAL", b"57P01"), True, "57P01", id="ended in the place of COMMIT"),
        pytest.param(BEGUN + UPDATED + COMMITTED + error(b"FATAL", b"57P01"), True, None, id="ended after COMMIT"),
        pytest.param(BEGUN + UPDATED + done(b"ROLLBACK") + READY, True, "25P02", id="COMMIT of what had failed"),
        pytest.param(BEGUN + FAILED_UPDATE, True, "23505", id="refused, and no result is read"),
    ],
)
def test_knowledge_of_whether_commit_happened(answers: bytes, may_have_committed: bool, expected: str | None) -> None:
    """A transaction that may have been committed is never retried, and an uncommitted one is never reported as done."""
    end = CommitState(maybe_committed=True)
    whole = answers == BEGUN + UPDATED + COMMITTED + READY
    with fake_server(answers) as port:
        options = {"host": "127.0.0.1", "port": port, "user": "x", "dbname": "x", "sslmode": "disable", "gssencmode": "disable"}
        with contextlib.closing(psycopg.connect(**options)) as raw:  # type: ignore[arg-type] # It takes any option by its name.
            django: Any = SimpleNamespace(connection=raw, wrap_database_errors=contextlib.nullcontext(), queries_logged=False, statements=0)
            pipelined = PipelineConnection(django)  # type: ignore[arg-type] # As much of a wrapper as it needs.
            pipelined.enqueue(Statement("update", "UPDATE anything"), [])
            with contextlib.nullcontext() if whole else pytest.raises(psycopg.Error) as failure:
                pipelined.flush(commit=end)
            alive = not raw.closed
    assert end.maybe_committed == may_have_committed
    if failure is not None:
        assert failure.value.sqlstate == expected
    # A connection that stays open has no replies left.
    assert alive == (whole or answers == BEGUN + FAILED_UPDATE)
