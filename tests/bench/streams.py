"""The streams under load: deliveries of webhooks, and the feed. Each figure takes some seconds, however fast or slow the service is."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from django.conf import settings

from basket_project.launcher.cluster import free_port
from baskets.domain.access.partners import create_partner
from baskets.domain.actors import Actor
from baskets.domain.events import feed, webhook_endpoints
from baskets.domain.events.payloads import event_payload
from baskets.models import FeedPosition
from tests.bench import seeding
from tests.bench.parts import Bench
from tests.bench.servers import processor_seconds

ACTOR = Actor.system("bench")
BASKETS, EVENTS_PER_BASKET = 3000, 5
EVENTS = BASKETS * EVENTS_PER_BASKET
MAX_SECONDS = 6.0
PAGE = 200


def _seed(bench: Bench, name: str) -> int:
    """Create a partner with events that have no position yet.

    :returns: the primary key of the partner.
    """
    partner = create_partner(name=name, actor=ACTOR)
    seeding.fill(bench.database_url, partner=partner.pk, users=bench.users(BASKETS), items=EVENTS_PER_BASKET, checkout=False)
    return int(partner.pk)


def webhooks(bench: Bench) -> None:
    """Measure deliveries a second with the default settings of `deliver_webhooks`."""
    _seed(bench, "webhooks")
    feed.assign_positions()
    settings.BASKETS_INTERNAL_ADDRESSES = True
    sys.stdout.write("\nWebhooks: deliveries a second, and milliseconds of processor time of the deliverers for each\n")
    for delay, deliverers in ((120, 1), (0, 1), (0, 2)):
        with _receiver(delay) as (url, counts):
            endpoint, _ = webhook_endpoints.create_webhook(partner_name="webhooks", url=url, from_the_beginning=True, actor=ACTOR)
            rate, cost = _deliver(counts, deliverers)
            webhook_endpoints.delete_webhook(endpoint=endpoint, reason="measured", actor=ACTOR)
        sys.stdout.write(f"  receiver of {delay:3d} ms, {deliverers} deliverer(s): {rate:6.0f} a second, {1000 * cost:5.2f} ms each\n")


@contextlib.contextmanager
def _receiver(delay_milliseconds: int) -> Iterator[tuple[str, Iterator[int]]]:
    """Run a receiver; yield its URL, and the numbers of received messages, ten a second."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.receiver", str(port), str(delay_milliseconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        counts = map(int, process.stdout)
        next(counts)
        try:
            yield f"http://127.0.0.1:{port}/hook", counts
        finally:
            process.terminate()


def _deliver(counts: Iterator[int], deliverers: int) -> tuple[float, float]:
    """Deliver for some seconds after a warm-up.

    :returns: deliveries a second, and processor seconds of the deliverers for each.
    """
    command = [sys.executable, "manage.py", "deliver_webhooks"]
    environment = os.environ | {"BASKETS_INTERNAL_ADDRESSES": "true"}
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(deliverers)]
    try:
        while next(counts) < 300:
            pass
        began, used = time.monotonic(), processor_seconds(process.pid for process in running)
        first = last = next(counts)
        while time.monotonic() < began + MAX_SECONDS and last < EVENTS:
            last = next(counts)
        elapsed = time.monotonic() - began
        used = processor_seconds(process.pid for process in running) - used
    finally:
        for process in running:
            process.terminate()
            process.wait(30)
    return (last - first) / elapsed, used / max(1, last - first)


def events(bench: Bench) -> None:
    """Measure how many events a second get their positions, and how many a consumer reads."""
    partner = _seed(bench, "events")
    began = time.monotonic()
    placed = feed.assign_positions()
    seconds = time.monotonic() - began
    sys.stdout.write(f"\nFeed: {placed / seconds:.0f} positions a second ({placed} events)\n")
    rows, cursor, read, size = FeedPosition.objects.filter(partner=partner), None, 0, 0
    began, used = time.monotonic(), time.process_time()
    while True:
        page, cursor = feed.read(rows, after=cursor, limit=PAGE)
        size += len(json.dumps([event_payload(entry, sandbox=False) for entry in page]))
        read += len(page)
        if len(page) < PAGE:
            break
    seconds, used = time.monotonic() - began, time.process_time() - used
    sys.stdout.write(f"  {read / seconds:.0f} events a second read in pages of {PAGE}, {1e6 * used / read:.0f} us of processor time each\n")
