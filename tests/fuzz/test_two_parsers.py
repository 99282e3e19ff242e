"""A second parser as oracle: h11 accepts what the process server accepts, and reads the same, up to where the next request begins."""

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import unquote_to_bytes

import h11
import pytest

from tests.conftest import LongRun
from tests.fuzz.corpus import CORPUS
from tests.fuzz.echoing import echoing
from tests.fuzz.test_mutations import MAX_RAW_BYTES, bent
from tests.fuzz.wire import RawConnection

AT_ONCE = 48
WAIT_SECONDS = 0.3
# Ends what is unfinished, and then the connection, where the stream leaves it in a state to read on.
END = b"\r\n\r\nGET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
LARGEST = 10_000_000
Reading = list[Any]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with echoing(seconds=WAIT_SECONDS) as port:
        yield port


# --- The two readers ---------------------------------------------------------------


def read_by_server(port: int, raw: bytes) -> list[Reading]:
    """Send a stream, and return the requests the server read in it before it refused one or waited in vain."""
    readings = []
    with RawConnection(port) as line:
        line.send(raw + END)
        while (reply := line.reply()).status in {100, 200}:
            if reply.status == 200:
                readings.append(reply.body)
    return readings


def read_by_h11(raw: bytes) -> list[Reading]:
    """Return the requests h11 reads in a stream before it refuses one or needs more."""
    readings: list[Reading] = []
    rest = raw + END
    # Two liberties of the server that h11 does not take: empty lines in front of a request (RFC 9112, 2.2), and UTF-8 in a target.
    while rest := re.sub(rb"\A(?:\r?\n)+", b"", rest):
        first, line_break, others = rest.partition(b"\n")
        first = re.sub(rb"[\x80-\xff]", lambda byte: b"%%%02X" % ord(byte[0]), first)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST)
        connection.receive_data(first + line_break + others)
        body = b""
        try:
            request = connection.next_event()
            if not isinstance(request, h11.Request):
                break
            while isinstance(event := connection.next_event(), h11.Data):
                body += event.data
        except h11.RemoteProtocolError:
            break
        if not isinstance(event, h11.EndOfMessage):
            break
        readings.append(reading(request, body))
        rest = connection.trailing_data[0]
    return readings


def reading(request: h11.Request, body: bytes) -> Reading:
    """Write what h11 read as the echo server does."""
    seen: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode().upper().replace("-", "_"), raw_value.decode("latin-1")
        if b"_" in raw_name or name in {"CONTENT_LENGTH", "TRANSFER_ENCODING"}:
            continue
        name = name if name == "CONTENT_TYPE" else f"HTTP_{name}"
        seen[name] = f"{seen[name]}{'; ' if name == 'HTTP_COOKIE' else ','}{value}" if name in seen else value
    method, target = request.method.decode(), request.target
    target = re.sub(rb"\Ahttps?://[^/?#]*(?=(/?))", lambda found: b"" if found[1] else b"/", target, flags=re.IGNORECASE)
    path, _, query = target.partition(b"#")[0].partition(b"?")
    if target == b"*" or (method == "CONNECT" and not target.startswith(b"/")):
        path, query = b"//", b""
    return [method, unquote_to_bytes(path).decode("latin-1"), unquote_to_bytes(query).decode("latin-1"), seen, body.decode("latin-1")]


def assert_no_looser(port: int, streams: list[bytes]) -> int:
    """Fail where the server reads what h11 does not, or reads it otherwise; returns how many requests both read."""
    with ThreadPoolExecutor(AT_ONCE) as readers:
        all_by_server = list(readers.map(lambda raw: read_by_server(port, raw), streams))
    for raw, by_server in zip(streams, all_by_server, strict=True):
        for each in by_server:
            each[2] = unquote_to_bytes(each[2].encode("latin-1")).decode("latin-1")
        assert read_by_h11(raw)[: len(by_server)] == by_server, raw
    return sum(map(len, all_by_server))


# --- What they are sent ------------------------------------------------------------

ENDS = [b"\r\n"] * 12 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\x0b\r\n", b"\x00\r\n"]
METHODS = [b"GET", b"POST", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"get", b"G T", b"", b"PRI", b"A" * 3000]
TARGETS = [
    *(b"/a", b"/a?b=c", b"/a%2fb", b"//a", b"*", b"a", b"http://x/y?z", b"HTTPS://x", b"http:///a", b"x:1", b"/a#b", b"/\xc3\xa4"),
    *(b"/\xff", b"/a\x00", b"/a\tb", b"/" + b"a" * 9000, b"", b"http://u@x:1?y", b"/a%00", b"/%", b"\\a", b"/a b"),
]
VERSIONS = [b"HTTP/1.1"] * 12 + [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/0.9", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b"HTTP/01.1", b""]
COLONS = [b": "] * 12 + [b":", b" : ", b":\t", b": \x0b", b"\t:", b":  \t ", b"", b": \r\n ", b"\r\n:"]
NAMES = [
    b"X-A",
    b"x-a",
    b"X_A",
    b"Host",
    b"Cookie",
    b"Content-Type",
    b"Connection",
    b"Upgrade",
    b"Expect",
    b"",
    b" X",
    b"X\xff",
    b"X@",
    b"Te",
]
VALUES = [
    *(b"a", b"", b"a, b", b"a\tb", b"a\rb", b"a\x00b", b"\xff\xe4", b"a\x7f", b"keep-alive", b"close", b"websocket", b"100-continue"),
    *(b"x" * 5000, b" a ", b"\x01", b"h2c"),
]
CODINGS = [
    *[b"chunked"] * 40,
    *(
        b"Chunked",
        b"identity",
        b"gzip, chunked",
        b"chunked, chunked",
        b"chunked;a=b",
        b" chunked ",
        b"chunked,",
        b"\x0bchunked",
        b"xchunked",
        b"",
    ),
]
CHUNK_ENDS = [
    *[b"\r\n"] * 60,
    *(b"\n", b"\r", b"", b" \r\n", b";a\r\n", b" ;a\r\n", b';a="b"\r\n', b";\r\r\n", b";a\x00\r\n"),
    b";" + b"a" * 1500 + b"\r\n",
]
SIZES = [b"%x"] * 12 + [b"%X", b"0%x", b"0x%x", b"+%x", b"-%x", b" %x", b"%x_0", b"0000000000000000%x", b"fffffffffffffff%x", b"%x g"]
TRAILERS = [b"", b"A: b\r\n"] * 10 + [
    b"A: b\r\n",
    b"A\r\n",
    b"\n",
    b"A: b\n",
    b" a\r\n",
    b"A : b\r\n",
    b"Content-Length: 9\r\n",
    b"A: \rb\r\n",
    b"A:\x00\r\n",
]


def made_body(rng: random.Random) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Make a body, with the headers that frame it."""
    data = rng.choice([b"", b"x", b"hello", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", rng.randbytes(40), b"y" * 4000])
    if rng.random() < 0.4:
        written = b""
        for piece in [data[:3], data[3:]] if rng.random() < 0.5 else [data]:
            if piece:
                written += rng.choice(SIZES) % len(piece) + rng.choice(CHUNK_ENDS) + piece + rng.choice(CHUNK_ENDS[:63])
        written += b"0" + rng.choice(CHUNK_ENDS) + rng.choice(TRAILERS) + rng.choice(ENDS)
        fields = [(b"Transfer-Encoding", rng.choice(CODINGS))]
        return (fields if rng.random() < 0.9 else [*fields, (b"Content-Length", b"%d" % len(data))]), written
    length = b"%d" % len(data)
    lengths = [length] * 12 + [
        b"+" + length,
        b"0" + length,
        length + b"," + length,
        length + b", 9",
        b" " + length + b" ",
        b"",
        length + b"_0",
        b"\xb2",
    ]
    fields = [(b"Content-Length", rng.choice(lengths))] if data or rng.random() < 0.2 else []
    return (fields * 2 if rng.random() < 0.1 else fields), data


def made_request(rng: random.Random) -> bytes:
    """Make a request; most parts of it are right."""
    fields, body = made_body(rng)
    if rng.random() < 0.95:
        fields.append((b"Host", b"h"))
    while rng.random() < 0.4:
        fields.append((rng.choice(NAMES), rng.choice(VALUES)))
    rng.shuffle(fields)
    method, target, version = (rng.choice(few) if rng.random() < 0.1 else few[0] for few in (METHODS, TARGETS, VERSIONS))
    end = rng.choice(ENDS) if rng.random() < 0.1 else b"\r\n"
    head = rng.choice([b" "] * 20 + [b"\t", b"  "]).join([method, target, version]) + end
    for name, value in fields:
        head += name + (rng.choice(COLONS) if rng.random() < 0.1 else b": ") + value + (end if rng.random() < 0.5 else b"\r\n")
    return head + end + body


def streams(rng: random.Random, number: int) -> list[bytes]:
    """Make streams of one to four requests, and bend some; HEAD is left out, because its answer shows nothing."""
    short = [case.raw for case in CORPUS if len(case.raw) < MAX_RAW_BYTES]
    made = []
    for _ in range(number):
        pieces = [made_request(rng) if rng.random() < 0.8 else rng.choice(short) for _ in range(rng.randint(1, 4))]
        front = rng.choice([b""] * 20 + [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n"])
        raw = front + b"".join(pieces)
        made.append((bent(raw, rng) if rng.random() < 0.3 else raw).replace(b"HEAD ", b"HEAP "))
    return made


def test_server_accepts_no_stream_that_another_parser_reads_differently(port: int) -> None:
    assert assert_no_looser(port, [case.raw for case in CORPUS if len(case.raw) < MAX_RAW_BYTES and not case.head_only]) > 100
    assert assert_no_looser(port, streams(random.Random(1), 3000)) > 1000


@pytest.mark.long
def test_server_agrees_with_another_parser_in_many_streams(port: int, long_run: LongRun) -> None:
    both = sum(assert_no_looser(port, streams(long_run.rng, 5000)) for _ in range(20))
    long_run.record(streams_read_by_two_parsers=100_000, requests_both_read=both)
