"""Hundreds of slow and idle callers at once: honest callers keep their speed."""

import contextlib
import time

import pytest

from tests.fuzz.cases import BOB, JSON, KEY, get
from tests.fuzz.conftest import Service
from tests.fuzz.test_corpus import filled
from tests.fuzz.wire import RawConnection, request

ATTACKS = {
    "idle connections": b"",
    "unfinished heads": b"GET /livez HTTP/1.1\r\nX-A: ",
    "withheld bodies": request("POST", "/baskets/guests", KEY, JSON, "Content-Length: 1000") + b"{",
    "unread answers": request("GET", "/static/drf_spectacular_sidecar/redoc/bundles/redoc.standalone.js"),
}


def slowest_of_20(service: Service) -> float:
    """Call 20 times, and return how long the slowest answer took."""
    with RawConnection(service.port) as line:
        seconds = []
        for _ in range(20):
            started = time.perf_counter()
            line.send(filled(get(BOB), service))
            assert line.reply().status == 200
            seconds.append(time.perf_counter() - started)
        return max(seconds)


def attack(service: Service, raw: bytes, callers: int) -> None:
    with contextlib.ExitStack() as attackers:
        for _ in range(callers):
            attackers.enter_context(RawConnection(service.port)).send(filled(raw, service))
        assert slowest_of_20(service) < 1.5


@pytest.mark.parametrize("name", [name for name in ATTACKS if name != "unread answers"])
def test_300_slow_callers_do_not_delay_others(name: str, db: None, service: Service) -> None:
    attack(service, ATTACKS[name], 300)


@pytest.mark.long
@pytest.mark.parametrize("name", ATTACKS)
def test_hundreds_of_slow_callers_do_not_delay_others(name: str, db: None, service: Service) -> None:
    attack(service, ATTACKS[name], 800)
