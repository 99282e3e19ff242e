"""The counters that workers increment for `/metrics`. `views.metrics` shows their sums.

Labels have few values by design: routes instead of paths, reasons instead of messages, and no partner or user.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from baskets.db.errors import RETRIES

REGISTRY = CollectorRegistry()
REGISTRY.register(RETRIES)

REQUESTS_ANSWERED = Counter(
    "baskets_requests",
    "Requests answered, by route, status and the reason of a refusal.",
    ("method", "route", "status", "reason"),
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "baskets_request_seconds",
    "How long requests took inside the service.",
    ("route",),
    buckets=(0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
TRACKING_DROPPED = Counter(
    "baskets_tracking_dropped",
    "Tracking values that could not be used.",
    ("source", "reason"),
    registry=REGISTRY,
)
SHORTAGES_OF_THIS_CELL = Counter(
    "baskets_shortages_of_this_cell",
    "Products of which a start found too little in this cell while other cells had some.",
    registry=REGISTRY,
)
DATABASE_FAULTS = Counter(
    "baskets_database_faults",
    "Calls that a failing database kept from being done.",
    ("fault",),
    registry=REGISTRY,
)
AUTHENTICATION_FAILURES = Counter(
    "baskets_authentication_failures",
    "API keys and bearer tokens that were missing or refused, also those whose response was `throttled`.",
    ("reason",),
    registry=REGISTRY,
)
REQUESTS_REFUSED = Counter(
    "baskets_refused",
    "Requests refused by the process server, before the application saw them.",
    ("reason",),
    registry=REGISTRY,
)
QUEUE_SECONDS = Histogram(
    "baskets_queue_seconds",
    "How long requests waited for a thread.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1),
    registry=REGISTRY,
)
QUEUE_LENGTH = Gauge("baskets_queue_length", "Requests that wait for a thread.", registry=REGISTRY, multiprocess_mode="livesum")
THREADS_BUSY = Gauge("baskets_threads_busy", "Threads that have a request.", registry=REGISTRY, multiprocess_mode="livesum")
REQUESTS_IN_FLIGHT = Gauge(
    "baskets_requests_in_flight",
    "Requests that were received and have no response yet: those that wait for a thread or for events included.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
CONNECTIONS_OPEN = Gauge("baskets_connections_open", "Open connections of callers.", registry=REGISTRY, multiprocess_mode="livesum")
