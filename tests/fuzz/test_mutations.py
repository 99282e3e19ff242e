"""Mutates the corpus at random: the service answers every result. The invariants are checked at the end of this folder."""

import random

import pytest

from tests.conftest import LongRun
from tests.fuzz.conftest import Service
from tests.fuzz.corpus import CORPUS
from tests.fuzz.test_corpus import filled
from tests.fuzz.wire import RawConnection, Reply

MAX_RAW_BYTES = 20_000
STRANGE = (
    *(b"\x00", b"\xff", b"\r\n", b"\t", b" ", b"/", b";", b",", b'"', b"{", b"["),
    *(b"%00", b"%2e", b"\\u0000", b"\\ud800", b"1e400", b"true"),
)


def bent(raw: bytes, rng: random.Random) -> bytes:
    """Change a request in a few places: bytes replaced, left out, put in, doubled."""
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(raw))
        to = min(at + rng.randint(0, 12), len(raw))
        new = rng.choice([b"", rng.choice(STRANGE), rng.randbytes(2), raw[at:to] * 2, raw[at:to].swapcase()])
        raw = raw[:at] + new + raw[to:] or b"\r\n"
    return raw


def response_to(raw: bytes, service: Service) -> Reply:
    """Send something and hear what comes back, if anything does."""
    with RawConnection(service.port) as line:
        line.send(raw)
        line.close_writing()
        return line.reply(head_only=raw[:4].upper() == b"HEAD")


def bend(service: Service, rng: random.Random, times: int) -> None:
    short = [case.raw for case in CORPUS if len(case.raw) < MAX_RAW_BYTES]
    for _ in range(times):
        raw = bent(filled(rng.choice(short), service), rng)
        reply = response_to(raw, service)
        assert reply.status < 500, raw
        if reply.raw and reply.headers.get("content-type") == "application/json":
            assert set(reply.body) <= {"data", "error"} or b"/schema" in raw, raw


def test_mutated_corpus_causes_no_server_error(db: None, service: Service) -> None:
    bend(service, random.Random(1), 300)


@pytest.mark.long
def test_corpus_mutated_at_length_causes_no_server_error(db: None, service: Service, long_run: LongRun) -> None:
    bend(service, long_run.rng, 20_000)
    long_run.record(bent_requests=20_000)
