"""What a soak measures each minute: memory and descriptors of processes, tables and their indexes, plans, and how late the sweeps are."""

import contextlib
import hashlib
import sys
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from django.db import connection

from baskets.db.statements import Statement
from tests.bench.background import Background
from tests.bench.parts import print_head, print_row
from tests.bench.servers import processor_seconds, resident_megabytes

MEGABYTE = 1e6
TABLES = """
SELECT relname, pg_table_size(relid), pg_indexes_size(relid), n_live_tup, n_dead_tup, n_tup_ins, n_tup_upd, n_tup_hot_upd,
       vacuum_count + autovacuum_count, autoanalyze_count
FROM pg_stat_user_tables WHERE relname LIKE 'baskets_%' OR relname = 'django_session'
"""
COLUMNS = ("table", "indexes", "live", "dead", "inserted", "updated", "hot", "vacuums", "analyzes")
DATABASE = (
    "SELECT pg_database_size(current_database()), pg_current_wal_lsn() - '0/0'::pg_lsn, (SELECT array_agg(pid) FROM pg_stat_activity)"
)
ORDERS = "SELECT count(*) FROM baskets_checkoutsession WHERE status = 'ORDERED'"
LAPSE = "SELECT max(extract(epoch FROM statement_timestamp() - expires_at)) FROM baskets_checkoutsession WHERE status = 'ACTIVE'"
METRICS = ("baskets_webhook_lag_seconds", "baskets_feed_lag_seconds", "baskets_webhooks_given_up", "baskets_webhook_blocked_baskets")

Sample = dict[str, Any]


class Lags(Background):
    """Looks each second for the checkout that is longest past its end. Use it as a context manager."""

    def __init__(self, database_url: str) -> None:
        super().__init__(seconds=1)
        self._url = database_url
        self._longest = 0.0

    def _run(self) -> None:
        with psycopg.connect(self._url, autocommit=True) as self._connection:
            super()._run()

    def _look(self) -> None:
        row = self._connection.execute(LAPSE).fetchone()
        self._longest = max(self._longest, float(row[0] or 0) if row else 0)

    def take(self) -> float:
        """Return the longest lapse in seconds since the last look, and forget it."""
        longest, self._longest = self._longest, 0.0
        return longest


class Sampler:
    """Takes samples of processes and database.

    :param programs: process ids by the name of what runs in them.
    """

    def __init__(self, database_url: str, programs: Mapping[str, Sequence[int]], url: str, token: str) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._programs, self._url, self._token = programs, url, token
        self._statements = _all_statements()
        self.samples: list[Sample] = []
        self.heads = ["Workers MB", "Descriptors", "Server's own MB", "Database MB", "Dead rows", "Plans changed", "Webhook lag s"]

    def take(self, values: Sample) -> Sample:
        """Take a sample, and keep it with these values."""
        size, wal, backends = self._connection.execute(DATABASE).fetchall()[0]
        sample = values | {
            "programs": {name: [_process(pid) for pid in pids] for name, pids in self._programs.items()},
            "processor": {name: processor_seconds(pids) for name, pids in self._programs.items()},
            "backends": [_private_megabytes(pid) for pid in backends],
            "tables": {row[0]: dict(zip(COLUMNS, row[1:], strict=True)) for row in self._connection.execute(TABLES)},
            "database": size,
            "wal": float(wal),
            "orders": self._connection.execute(ORDERS).fetchall()[0][0],
            "plans": self._plans(),
            "metrics": self._metrics(),
        }
        self.samples.append(sample)
        return sample

    def figures(self, sample: Sample) -> list[object]:
        """Return the columns of `heads`."""
        every = [process for processes in sample["programs"].values() for process in processes]
        first = self.samples[0]["plans"]
        return [
            "+".join(f"{process['mb']:.0f}" for process in sample["programs"]["workers"]),
            sum(process["descriptors"] for process in every),
            sum(sample["backends"]),
            sample["database"] / MEGABYTE,
            sum(table["dead"] for table in sample["tables"].values()),
            sum(first.get(name) != plan for name, plan in sample["plans"].items()),
            sample["metrics"].get("baskets_webhook_lag_seconds", 0.0),
        ]

    def _plans(self) -> dict[str, str]:
        """Return a digest of the generic plan of each statement, under the settings of the service."""
        plans: dict[str, str] = {}
        with connection.cursor() as cursor:
            for name, sql in self._statements.items():
                with contextlib.suppress(Exception):  # What has no plan, such as BEGIN, is left out.
                    cursor.execute(f"EXPLAIN (GENERIC_PLAN, COSTS OFF) {sql}")
                    plans[name] = hashlib.sha256("\n".join(row[0] for row in cursor.fetchall()).encode()).hexdigest()[:12]
        return plans

    def _metrics(self) -> dict[str, float]:
        request = urllib.request.Request(f"{self._url}/metrics", headers={"Authorization": f"Bearer {self._token}"})  # noqa: S310 (as below)
        with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 (our own address)
            lines = response.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith(METRICS))
        return {name: float(value) for name, _, value in pairs}


def _all_statements() -> dict[str, str]:
    """Return the text of each statement of the loaded modules by its name."""
    values = [value for name, module in list(sys.modules.items()) if name.startswith("baskets.") for value in vars(module).values()]
    return {value.prepared_name.decode(): value.dollar_sql.decode() for value in values if isinstance(value, Statement)}


def _process(pid: int) -> dict[str, float]:
    return {"mb": resident_megabytes(pid), "descriptors": len(list(Path(f"/proc/{pid}/fd").iterdir()))}


def _private_megabytes(pid: int) -> float:
    """The memory that a server process shares with no other; 0 once it has ended."""
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024 / MEGABYTE
    return 0.0


def print_growth(samples: Sequence[Sample]) -> None:
    """Print how tables, plans and processor time have changed from the first sample to the last."""
    first, last = samples[0], samples[-1]
    orders, seconds = max(1, last["orders"] - first["orders"]), max(1, last["minute"] - first["minute"]) * 60
    print_head(
        f"Growth from minute {first['minute']} to {last['minute']}, {orders} orders",
        *("Table", "MB, first and last", "of its indexes", "Rows", "Dead rows, most", "Updates", "HOT", "Vacuums", "Bytes an order"),
    )
    for name, after in sorted(last["tables"].items(), key=lambda item: -item[1]["table"] - item[1]["indexes"]):
        before = first["tables"][name]
        if all(after[column] == before[column] for column in ("inserted", "updated")):
            continue
        updates = after["updated"] - before["updated"]
        grown = after["table"] + after["indexes"] - before["table"] - before["indexes"]
        print_row(
            *(name, _change(before["table"], after["table"]), _change(before["indexes"], after["indexes"]), after["live"]),
            max(sample["tables"][name]["dead"] for sample in samples),
            *(updates, f"{(after['hot'] - before['hot']) / updates:.0%}" if updates else "-", after["vacuums"], grown // orders),
        )
    print_row("database", _change(first["database"], last["database"]), *[""] * 6, (last["database"] - first["database"]) // orders)
    print_row("WAL", _change(first["wal"], last["wal"]), *[""] * 6, int(last["wal"] - first["wal"]) // orders)
    print_head("Processor time", "Process", "Share of a core")
    for name, spent in last["processor"].items():
        print_row(name, f"{(spent - first['processor'][name]) / seconds:.1%}")
    print_head("Statements whose generic plan differs from the first minute", "Statement", "From minute")
    for name in _changed_plans(samples):
        print_row(name, next(sample["minute"] for sample in samples if sample["plans"].get(name) != first["plans"][name]))


def _change(before: float, after: float) -> str:
    return f"{before / MEGABYTE:.1f} to {after / MEGABYTE:.1f}"


def _changed_plans(samples: Sequence[Sample]) -> Iterable[str]:
    first, last = samples[0]["plans"], samples[-1]["plans"]
    return [name for name, plan in first.items() if last.get(name) != plan]
