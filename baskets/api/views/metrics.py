"""Numbers for a monitoring system: what all workers have counted, and what the database holds when it is asked.

Off unless a token is set, and then open to whoever brings it.
"""

import hmac
import os
from collections.abc import Iterator

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from baskets import conf
from baskets.api.auth.bearer import INVALID_CHALLENGE, MISSING_CHALLENGE
from baskets.api.exceptions import answer
from baskets.api.protocol.metrics import REGISTRY
from baskets.api.views.health import get_only
from baskets.db.errors import reading
from baskets.db.pipeline import execute
from baskets.domain.support import key_misuse

# Where the workers of one server leave their counts for each other; `basket_project.server` sets it.
MULTIPROCESS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# All of it stands in partial indexes, but for the shortfall, which is as large as the catalogue.
DATABASE_NUMBERS = """
SELECT (SELECT count(*) FROM baskets_checkoutsession WHERE status = 'ACTIVE'),
       lapsed.sessions, coalesce(extract(epoch FROM statement_timestamp() - lapsed.oldest), 0)::float,
       (SELECT count(*) FROM baskets_attention WHERE settled_at IS NULL),
       (SELECT coalesce(sum(shortfall), 0)::bigint FROM baskets_stock)
FROM (
    SELECT count(*) AS sessions, min(expires_at) AS oldest FROM baskets_checkoutsession
    WHERE status = 'ACTIVE' AND expires_at <= statement_timestamp()
) lapsed
"""
GAUGES = (
    ("baskets_checkouts_active", "Checkouts that have not ended, lapsed ones among them."),
    ("baskets_checkouts_lapsed", "Checkouts past the end of their hold, not yet swept."),
    ("baskets_oldest_lapsed_seconds", "How long the oldest of them has been past its end; 0 where there is none."),
    ("baskets_attention_open", "Matters that wait for staff."),
    ("baskets_shortfall_pieces", "Pieces held although the shop no longer has them."),
    ("baskets_keys_unlike_others", "API keys whose checkouts are unlike those of all other keys; the work list names them."),
)


class DatabaseCollector(Collector):
    """What the database holds now, and whether it answers."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Ask once; a database that is away is a number, too."""
        try:
            numbers = reading(lambda: (*execute(DATABASE_NUMBERS, []).fetchall()[0], len(key_misuse.find_unusual_keys())))
        except DatabaseError:
            numbers = None
        yield GaugeMetricFamily("baskets_database_up", "Whether the database answered.", value=int(numbers is not None))
        for (name, meaning), number in zip(GAUGES, numbers or (), strict=numbers is not None):
            yield GaugeMetricFamily(name, meaning, value=number)


@get_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Show the numbers, in the text format of Prometheus."""
    token = conf.metrics_token()
    if not token:
        return answer("not_found")
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return answer("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})
    if not hmac.compare_digest(given.strip().encode(errors="replace"), token.encode()):
        return answer("token_invalid", headers={"WWW-Authenticate": INVALID_CHALLENGE})
    response = HttpResponse(generate_latest(_counter_registry()) + generate_latest(_database_registry()), content_type=CONTENT_TYPE_LATEST)
    response.headers["Cache-Control"] = "no-store"
    return response


def _counter_registry() -> CollectorRegistry:
    """The counts of this process, or the sums of all workers of this server."""
    if MULTIPROCESS_DIR_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # It carries no types.
    return registry


def _database_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(DatabaseCollector())
    return registry
