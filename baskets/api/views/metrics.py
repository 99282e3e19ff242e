"""The metrics for Prometheus: the counters of all workers, and numbers that the database holds now.

Without a configured token the page does not exist; with one, a request must send it as bearer token.
"""

import hmac
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import Error as DatabaseError
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from baskets import conf
from baskets.api.auth.bearer import INVALID_CHALLENGE, MISSING_CHALLENGE
from baskets.api.exceptions import error_response
from baskets.api.protocol.metrics import REGISTRY
from baskets.api.views.health import get_only
from baskets.db.errors import read_with_reconnect
from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.support import key_misuse
from baskets.models import Product

# Names the directory in which the workers of one server share their counters; `basket_project.server` sets it.
MULTIPROCESS_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

# Operators need not act on what goes wrong in a sandbox, so its flags and webhooks are left out.
# Indexes answer all of it except the shortfall, which reads the whole stock table, and the waits, which read the memory of the server.
DATABASE_NUMBERS = Statement(
    "database_numbers",
    """
WITH sandbox AS (SELECT id FROM baskets_partner WHERE sandbox_of_id IS NOT NULL)
SELECT (SELECT count(*) FROM baskets_checkoutsession WHERE status = 'ACTIVE'),
       lapsed.sessions, coalesce(extract(epoch FROM statement_timestamp() - lapsed.oldest), 0)::float,
       (SELECT count(*) FROM baskets_attention a JOIN baskets_basket b ON b.id = a.basket_id
        WHERE a.settled_at IS NULL AND b.partner_id NOT IN (SELECT id FROM sandbox)),
       (SELECT coalesce(sum(shortfall), 0)::bigint FROM baskets_stock),
       coalesce((
           SELECT extract(epoch FROM statement_timestamp() - e.at) FROM baskets_event e
           WHERE e.id > (SELECT coalesce(max(settled_id), 0) FROM baskets_feedstate)
             AND NOT EXISTS (SELECT FROM baskets_feedposition p WHERE p.event_id = e.id)
           ORDER BY e.id LIMIT 1
       ), 0)::float,
       coalesce((
           SELECT extract(epoch FROM statement_timestamp() - min(first.at)) FROM baskets_webhookendpoint w, LATERAL (
               SELECT e.at FROM baskets_feedposition p JOIN baskets_event e ON e.id = p.event_id
               WHERE p.partner_id = w.partner_id AND p.position > w.position ORDER BY p.position LIMIT 1
           ) first
           WHERE w.state = 'active' AND w.partner_id NOT IN (SELECT id FROM sandbox)
       ), 0)::float,
       (SELECT count(*) FROM baskets_webhookblockedbasket blocked JOIN baskets_webhookendpoint w ON w.id = blocked.endpoint_id
        WHERE blocked.failures > 0 AND w.partner_id NOT IN (SELECT id FROM sandbox)),
       (SELECT count(*) FROM baskets_webhookendpoint WHERE state = 'dead' AND partner_id NOT IN (SELECT id FROM sandbox)),
       waits.sessions, waits.longest,
       coalesce((SELECT extract(epoch FROM max(swept_at)) FROM baskets_activitystate), 0)::float,
       coalesce((SELECT extract(epoch FROM at) FROM baskets_deskentry WHERE kind = 'purged' ORDER BY id DESC LIMIT 1), 0)::float,
       coalesce(extract(epoch FROM checked.at), 0)::float, coalesce(checked.broken, 0),
       coalesce((
           SELECT coalesce(max(extract(epoch FROM statement_timestamp() - w.last_msg_receipt_time))::float, 'infinity')
           FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid LEFT JOIN pg_stat_subscription w ON w.subid = s.oid
           WHERE d.datname = current_database() HAVING count(s.oid) > 0
       ), 0)
FROM (
    SELECT count(*) AS sessions, min(expires_at) AS oldest FROM baskets_checkoutsession
    WHERE status = 'ACTIVE' AND expires_at <= statement_timestamp()
) lapsed
CROSS JOIN (
    SELECT count(*) AS sessions, coalesce(extract(epoch FROM statement_timestamp() - min(query_start)), 0)::float AS longest
    FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
) waits
LEFT JOIN (
    SELECT at, jsonb_array_length(data -> 'broken') AS broken FROM baskets_deskentry WHERE kind = 'checked' ORDER BY id DESC LIMIT 1
) checked ON true
""",
)
GAUGES = (
    ("baskets_checkouts_active", "Checkouts that have not ended, lapsed ones among them."),
    ("baskets_checkouts_lapsed", "Checkouts past the end of their hold, not yet swept."),
    ("baskets_oldest_lapsed_seconds", "How long the oldest of them has been past its end; 0 where there is none."),
    ("baskets_attention_open", "Open attention flags, without those of sandboxes."),
    ("baskets_shortfall_pieces", "Pieces held although the shop no longer has them."),
    ("baskets_feed_lag_seconds", "How long the oldest event without a place in the feed has been waiting; 0 where there is none."),
    (
        "baskets_webhook_lag_seconds",
        "The age of the oldest event that an active webhook has not passed; 0 for none. Without sandboxes.",
    ),
    ("baskets_webhook_blocked_baskets", "Baskets whose event a webhook refuses, without sandboxes."),
    ("baskets_webhooks_given_up", "Webhooks that were given up after failures, without sandboxes."),
    ("baskets_lock_waits", "Sessions of the database that wait for a lock."),
    ("baskets_longest_lock_wait_seconds", "How long the statement of the longest of them has been running; 0 where there is none."),
    ("baskets_last_sweep_timestamp_seconds", "When a sweep last ended after all that was due, in Unix time; 0: never."),
    ("baskets_last_purge_timestamp_seconds", "When purge_history last ended, in Unix time; 0: never."),
    ("baskets_last_check_timestamp_seconds", "When check_baskets last ended, in Unix time; 0: never."),
    ("baskets_broken_rules", "Rules that the last check_baskets found broken."),
    ("baskets_publisher_silent_seconds", "For how long the cell that publishes the catalog has sent nothing; 0: this cell follows none."),
    ("baskets_keys_unlike_others", "API keys whose checkouts are unlike those of all other keys; the work list names them."),
)
# Each has the label `product`, for the products of the setting.
SOLD = ("baskets_product_sold_pieces", "Pieces of a limited product that were sold within the last minute.")
AVAILABLE = ("baskets_product_available_pieces", "Pieces of a limited product that a checkout can hold now.")
SOLD_WITHIN = timedelta(minutes=1)


class DatabaseCollector(Collector):
    """Collects whether the database responds, the numbers of `GAUGES`, and those of the chosen products."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Query the database. If it is not available, only `baskets_database_up` is reported, as 0."""
        try:
            numbers = read_with_reconnect(lambda: (*execute(DATABASE_NUMBERS, []).fetchall()[0], len(key_misuse.find_unusual_keys())))
            products = read_with_reconnect(_chosen_products)
        except DatabaseError:
            numbers, products = None, []
        yield GaugeMetricFamily("baskets_database_up", "Whether the database answered.", value=int(numbers is not None))
        for (name, meaning), number in zip(GAUGES, numbers or (), strict=numbers is not None):
            yield GaugeMetricFamily(name, meaning, value=number)
        sold, available = GaugeMetricFamily(*SOLD, labels=["product"]), GaugeMetricFamily(*AVAILABLE, labels=["product"])
        for product_id, sold_pieces, available_pieces in products:
            sold.add_metric([product_id], sold_pieces)
            available.add_metric([product_id], available_pieces)
        yield from (sold, available)


def _chosen_products() -> list[tuple[str, int, int]]:
    """Read the sales and the stock of the chosen products, in one statement; none if no product is chosen.

    :returns: the id, the pieces sold within `SOLD_WITHIN`, and the available pieces. Unknown and unlimited products are left out.
    """
    chosen = Product.objects.filter(pk__in=conf.metrics_products(), stock__limited=True).order_by("pk")
    products: Any = chosen.with_obtainable().with_sold(within=SOLD_WITHIN)
    return [(product.pk, product.sold, product.obtainable) for product in products]


@get_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Return the metrics in the text format of Prometheus."""
    token = conf.metrics_token()
    if not token:
        return error_response("not_found")
    scheme, _, given = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
    if scheme.lower() != "bearer":
        return error_response("token_missing", headers={"WWW-Authenticate": MISSING_CHALLENGE})
    if not hmac.compare_digest(given.strip().encode(errors="replace"), token.encode()):
        return error_response("token_invalid", headers={"WWW-Authenticate": INVALID_CHALLENGE})
    response = HttpResponse(generate_latest(_counter_registry()) + generate_latest(_database_registry()), content_type=CONTENT_TYPE_LATEST)
    response.headers["Cache-Control"] = "no-store"
    return response


def _counter_registry() -> CollectorRegistry:
    """Return the counters of this process, or the sums of all workers of this server."""
    if MULTIPROCESS_DIR_VARIABLE not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # It carries no types.
    return registry


def _database_registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(DatabaseCollector())
    return registry
