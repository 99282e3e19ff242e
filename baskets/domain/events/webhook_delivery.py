"""Delivers events to the webhooks of partners: at least once, in order for each basket, and never within a transaction.

One thread does everything with the database; the others send. What is stored, and why nothing is lost: Note [Lanes].
"""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from queue import Empty, SimpleQueue
from uuid import UUID, uuid4

import structlog
from django.db import DatabaseError, InterfaceError, connection

from baskets.db.errors import Fault, fault_of
from baskets.db.transactions import run_in_transaction
from baskets.domain.events import feed, webhook_attempts, webhook_blocks, webhook_lanes, webhook_requests
from baskets.domain.events.webhook_attempts import Attempt
from baskets.domain.events.webhook_failures import Failure
from baskets.domain.events.webhook_outcomes import attempt_of, record_failure
from baskets.domain.events.webhook_requests import Outcome, Signers
from baskets.domain.events.webhook_streams import Job, Lane, Stream
from baskets.models import WebhookEndpoint
from baskets.net.kept_connections import KeptConnections

log = structlog.get_logger("baskets.webhooks")

SYNC_SECONDS = 1.0
RECORD_SECONDS = 0.2
# How often the lanes without an event are stored: the lag of an endpoint is known no better than this.
IDLE_LANES_SECONDS = 5.0
# How often a deliverer gives positions to new events.
ASSIGN_SECONDS = 0.1
# How often an idle deliverer looks for new events.
POLL_SECONDS = 0.1
# How often a busy deliverer looks for new events.
READ_SECONDS = 0.05
RETRY_SECONDS = 1.0


@dataclass(kw_only=True)
class DeliveryTotals:
    """What a deliverer has done: events that were acknowledged, and requests that failed."""

    delivered: int = 0
    failed: int = 0


class Deliverer:
    """Delivers the events of all lanes that it holds. See Note [Lanes].

    :param workers: how many requests may be in flight at once.
    """

    def __init__(self, *, workers: int) -> None:
        self.id = uuid4()
        self.totals = DeliveryTotals()
        self._workers = workers
        self._streams: dict[int, Stream] = {}
        self._blocks: list[webhook_blocks.DueBlock] = []
        self._tests: list[int] = []
        self._ended: SimpleQueue[tuple[Job, Outcome | None] | Attempt] = SimpleQueue()
        self._to_record: deque[tuple[Job, Outcome | None]] = deque()
        self._attempts: list[Attempt] = []
        self._succeeded: set[int] = set()
        self._in_flight = 0
        self._kept = KeptConnections()
        # The lease on this machine's clock, counted from before the statement that prolonged it.
        self._alive_until = self._synced_at = self._recorded_at = self._assigned_at = self._read_at = float("-inf")
        # The database's clock at the last heartbeat, and this machine's.
        self._now, self._now_at = datetime.max.replace(tzinfo=UTC), float("-inf")

    def run(self, *, once: bool, stop: Callable[[], bool], advance: Callable[[int], None] = lambda _: None) -> DeliveryTotals:
        """Deliver until a stop signal, and finish the requests in flight.

        :param once: end when no event is due that this deliverer may send, and raise database errors.
        :param advance: is called with the number of delivered events.
        """
        with ThreadPoolExecutor(self._workers) as pool:
            try:
                while not stop():
                    before = self.totals.delivered
                    try:
                        is_idle = self._step(pool)
                    except (DatabaseError, InterfaceError) as error:
                        if once or fault_of(error) is Fault.INTERNAL:
                            raise
                        log.warning("webhooks_wait_for_the_database", fault=fault_of(error).name)
                        connection.close()
                        self._await_outcomes(RETRY_SECONDS)
                        continue
                    advance(self.totals.delivered - before)
                    if is_idle and once:
                        break
                    self._await_outcomes(POLL_SECONDS if is_idle or not self._to_record else 0)
                while self._in_flight:
                    self._await_outcomes(SYNC_SECONDS)
                    self._heartbeat_if_due(accepts=False)
                before = self.totals.delivered
                self._record_outcomes()
                self._record_progress(is_last=True)
                webhook_lanes.end(deliverer=self.id)
                advance(self.totals.delivered - before)
            finally:
                self._kept.close()
        return self.totals

    # --- One step ------------------------------------------------------------------------------

    def _step(self, pool: ThreadPoolExecutor) -> bool:
        """Record what has ended, renew the lease, read, and send.

        :returns: whether nothing is in flight or to be sent now.
        """
        self._record_outcomes()
        if time.monotonic() - self._recorded_at >= RECORD_SECONDS:
            self._record_progress()
        # Failures record progress as well, and must not postpone this.
        if time.monotonic() - self._assigned_at >= ASSIGN_SECONDS:
            self._assigned_at = time.monotonic()
            feed.assign_positions()
        self._heartbeat_if_due(accepts=True)
        self._read()
        self._send(pool)
        if self._in_flight:
            return False
        self._record_progress()
        return True

    def _await_outcomes(self, seconds: float) -> None:
        """Wait for the first outcome, and collect all that are there."""
        try:
            self._collect(self._ended.get(timeout=seconds) if seconds else self._ended.get_nowait())
            while True:
                self._collect(self._ended.get_nowait())
        except Empty:
            pass

    def _collect(self, ended: tuple[Job, Outcome | None] | Attempt) -> None:
        self._in_flight -= 1
        if isinstance(ended, Attempt):
            self._attempts.append(ended)
            return
        job, _ = ended
        job.stream.in_flight -= 1
        self._to_record.append(ended)

    # --- The lease -----------------------------------------------------------------------------

    def _heartbeat_if_due(self, *, accepts: bool) -> None:
        started = time.monotonic()
        if started - self._synced_at < SYNC_SECONDS:
            return
        found = webhook_lanes.sync(deliverer=self.id, accepts=accepts)
        self._synced_at, self._alive_until = started, started + webhook_lanes.LEASE.total_seconds()
        self._now, self._now_at = found.now, time.monotonic()
        self._drop_lost(found.held, {lane.lane_id for lane in found.claimed})
        for claimed in found.claimed:
            self._add(claimed)
        # Another deliverer may have unblocked a basket of a lane that comes back.
        for endpoint_id in {claimed.endpoint_id for claimed in found.claimed}:
            self._streams[endpoint_id].blocked = webhook_blocks.blocked_baskets(endpoint_id=endpoint_id)
        for endpoint_id, stream in self._streams.items():
            stream.is_due = endpoint_id in found.due
        self._blocks = found.blocks
        self._tests += found.tests
        self._release_surplus(found.share)
        self._kept.close_unusable()

    def _drop_lost(self, held: dict[int, set[int]], claimed: set[int]) -> None:
        """Drop the lanes that were taken away: by another deliverer, or because the endpoint was changed."""
        for endpoint_id, stream in list(self._streams.items()):
            kept = held.get(endpoint_id, set()) - claimed
            for number, lane in list(stream.lanes.items()):
                if lane.lane_id not in kept:
                    lane.is_held = False
                    del stream.lanes[number]
            if not stream.lanes:
                del self._streams[endpoint_id]

    def _add(self, claimed: webhook_lanes.ClaimedLane) -> None:
        stream = self._streams.get(claimed.endpoint_id)
        if stream is None:
            endpoint = WebhookEndpoint.objects.select_related("partner").get(pk=claimed.endpoint_id)
            stream = self._streams[endpoint.pk] = Stream(
                endpoint=endpoint, signers=Signers(endpoint), lanes={}, read=claimed.position, blocked=set()
            )
        at = claimed.position
        stream.lanes[claimed.number] = Lane(lane_id=claimed.lane_id, number=claimed.number, read=at, done=at, stored=at)
        stream.read, stream.has_more = min(stream.read, at), True

    def _release_surplus(self, share: int) -> None:
        """Release idle lanes beyond the share, for a deliverer that has started."""
        surplus = [
            (stream, lane)
            for stream in self._streams.values()
            for lane in [lane for lane in stream.lanes.values() if not lane.in_flight][: max(0, len(stream.lanes) - share)]
        ]
        if not surplus:
            return
        self._record_progress()
        webhook_lanes.release(deliverer=self.id, lanes=[lane.lane_id for _, lane in surplus])
        for stream, lane in surplus:
            lane.is_held = False
            del stream.lanes[lane.number]
        self._streams = {endpoint_id: stream for endpoint_id, stream in self._streams.items() if stream.lanes}

    # --- Reading -------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read the next events of the streams that have few."""
        is_time = not self._in_flight or time.monotonic() - self._read_at >= READ_SECONDS
        positions = {
            endpoint_id: (stream.endpoint.partner_id, stream.read)
            for endpoint_id, stream in self._streams.items()
            if stream.is_due and (is_time or stream.has_more) and stream.has_room()
        }
        if is_time:
            self._read_at = time.monotonic()
        if not positions:
            return
        for endpoint_id, last, has_unread in feed.find_unread(positions):
            stream = self._streams[endpoint_id]
            if has_unread:
                stream.read_next(last)
            else:
                stream.read = max(stream.read, last)

    # --- Sending -------------------------------------------------------------------------------

    def _send(self, pool: ThreadPoolExecutor) -> None:
        """Send the next event of each lane that has none in flight, and of each blocked basket that is due."""
        for endpoint in WebhookEndpoint.objects.filter(pk__in=self._tests) if self._tests else ():
            self._in_flight += 1
            pool.submit(self._run_test, endpoint)
        self._tests = []
        blocks, self._blocks = self._blocks, []
        for block in blocks:
            self._retry(pool, *block)
        for stream in self._streams.values():
            if not stream.is_due:
                continue
            for lane in stream.lanes.values():
                while lane.waiting and not lane.in_flight and lane.waiting[0].basket_id in stream.blocked:
                    lane.done = lane.waiting.popleft().entry.position
                if lane.waiting and not lane.in_flight and stream.in_flight < stream.window:
                    lane.in_flight = True
                    self._start(pool, Job(stream=stream, lane=lane, event=lane.waiting.popleft()))

    def _retry(self, pool: ThreadPoolExecutor, block_id: int, endpoint_id: int, basket_id: UUID, position: int) -> None:
        """Send the next event of a blocked basket; unblock the basket if there is none up to the position of its lane."""
        stream = self._streams.get(endpoint_id)
        lane = stream.lane_of(basket_id) if stream else None
        if stream is None or lane is None or not stream.is_due or block_id in stream.retrying or stream.in_flight >= stream.window:
            return
        stream.blocked.add(basket_id)
        found = stream.read_events(event__basket_id=basket_id, position__gte=position, position__lte=lane.done, limit=1)
        if found:
            stream.retrying.add(block_id)
            self._start(pool, Job(stream=stream, lane=lane, event=found[0], block_id=block_id, block_position=position))
        elif webhook_blocks.unblock(deliverer=self.id, lane_id=lane.lane_id, block_id=block_id, position=position):
            stream.blocked.discard(basket_id)

    def _start(self, pool: ThreadPoolExecutor, job: Job) -> None:
        job.stream.in_flight += 1
        self._in_flight += 1
        pool.submit(self._run, job)

    def _run(self, job: Job) -> None:
        """Send one event, in a thread without a database connection. Sends nothing after the lease has ended."""
        outcome = None
        try:
            if job.lane.is_held and time.monotonic() < self._alive_until:
                stream = job.stream
                outcome = webhook_requests.send_event(
                    stream.endpoint, job.event.entry, signers=stream.signers, now=self._clock(), kept=self._kept
                )
        except Exception:
            # A defect of ours: the event waits like one that the receiver refuses, and the others go on.
            log.exception("webhook_message_failed", webhook=job.stream.endpoint.pk)
            outcome = Outcome(failure=Failure(problem="The message could not be sent."), status=None, duration=timedelta(0))
        self._ended.put((job, outcome))

    def _run_test(self, endpoint: WebhookEndpoint) -> None:
        """Send a test message, like `_run`. Its failure is recorded as an attempt only."""
        try:
            outcome = webhook_requests.send_test(endpoint, now=self._clock(), kept=self._kept)
        except Exception:
            log.exception("webhook_message_failed", webhook=endpoint.pk)
            outcome = Outcome(failure=Failure(problem="The message could not be sent."), status=None, duration=timedelta(0))
        self._ended.put(attempt_of(endpoint, None, outcome))

    def _clock(self) -> datetime:
        """Return the database's clock, counted on since the last heartbeat."""
        return self._now + timedelta(seconds=time.monotonic() - self._now_at)

    # --- Recording -----------------------------------------------------------------------------

    def _record_outcomes(self) -> None:
        """Record what has ended. An outcome that cannot be recorded stays for the next step."""
        while self._to_record:
            job, outcome = self._to_record[0]
            if outcome is None or not job.lane.is_held:
                self._put_back(job)
            elif outcome.failure:
                self._record_failure(job, outcome, outcome.failure)
            else:
                self._record_success(job, outcome)
            self._to_record.popleft()

    def _put_back(self, job: Job) -> None:
        """Forget a request whose outcome must not be recorded. If the lane is held, its event is sent again."""
        if job.block_id is None:
            job.lane.in_flight = False
            job.lane.waiting.appendleft(job.event)
        else:
            job.stream.retrying.discard(job.block_id)

    def _record_success(self, job: Job, outcome: Outcome) -> None:
        stream, endpoint_id = job.stream, job.stream.endpoint.pk
        if job.block_id is None:
            job.lane.in_flight, job.lane.done = False, job.event.entry.position
        else:
            block_id, expected, position = job.block_id, job.block_position, job.event.entry.position
            run_in_transaction(lambda: webhook_blocks.pass_blocked_event(block_id=block_id, expected=expected, position=position))
            stream.retrying.discard(block_id)
            self._blocks.append(webhook_blocks.DueBlock(block_id, endpoint_id, job.event.basket_id, position + 1))
        self._succeeded.add(endpoint_id)
        stream.window = min(stream.window + 1, webhook_lanes.LANES)
        self._attempts.append(attempt_of(stream.endpoint, job.event.entry.position, outcome))
        self.totals.delivered += 1

    def _record_failure(self, job: Job, outcome: Outcome, failure: Failure) -> None:
        """Record a failure after the successes before it, so that none of them ends its wait."""
        stream, event, position = job.stream, job.event, job.event.entry.position
        self._record_progress()
        self._attempts.append(attempt_of(stream.endpoint, position, outcome))

        recorded = run_in_transaction(lambda: record_failure(job, failure, deliverer=self.id))
        is_blocked = recorded is not None and recorded.blocked
        stream.window = max(1, stream.window // 2) if is_blocked else 1
        if job.block_id is not None:
            stream.retrying.discard(job.block_id)
        elif is_blocked:
            stream.blocked.add(event.basket_id)
            job.lane.in_flight, job.lane.done = False, position
        else:
            stream.is_due = False
            self._put_back(job)
        # The next sync learns whether the endpoint waits.
        self._synced_at = float("-inf")
        self.totals.failed += 1
        log.warning(
            "webhook_failed", webhook=stream.endpoint.pk, problem=failure.problem, blocked=is_blocked, state=recorded and recorded.state
        )

    def _record_progress(self, *, is_last: bool = False) -> None:
        """Store the positions of the lanes, and the latest attempts, in one transaction. See Note [Idle lanes].

        :param is_last: store the positions of idle lanes, however short they are idle.
        """
        self._recorded_at = now = time.monotonic()
        positions: dict[int, int] = {}
        endpoints, passed = set(self._succeeded), set[int]()
        for endpoint_id, stream in self._streams.items():
            if stream.dirty_since is None:
                continue
            if is_last or now - stream.dirty_since >= IDLE_LANES_SECONDS:
                passed.add(endpoint_id)
            if found := stream.positions_to_store(idle_too=endpoint_id in passed):
                positions |= found
                endpoints.add(endpoint_id)
        if positions or self._attempts or self._succeeded:

            def step() -> None:
                webhook_lanes.record_progress(
                    deliverer=self.id, endpoints=sorted(endpoints), positions=positions, succeeded=sorted(self._succeeded)
                )
                webhook_attempts.record_attempts(self._attempts)

            run_in_transaction(step)
        self._succeeded, self._attempts = set(), []
        for endpoint_id, stream in self._streams.items():
            stream.set_stored(positions, idle_too=endpoint_id in passed)
