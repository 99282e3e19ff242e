"""What a call costs: processor time of the service and of PostgreSQL, instructions of the service, and updates of rows."""

import sys
import time
from typing import Any

import psycopg

from tests.bench.instructions import count_instructions, find_counter, read_record
from tests.bench.parts import (
    OPERATIONS,
    STATISTICS_SECONDS,
    Bench,
    measure,
    measure_cost,
    measure_service,
    prepare_calls,
    print_head,
    print_row,
)
from tests.bench.servers import service

UPDATES = "SELECT relname, n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE n_tup_upd > 0 AND relname LIKE 'baskets_%' ORDER BY 1"


def cost(bench: Bench) -> None:
    """Measure the processor time of each call in the service and in PostgreSQL, and count the instructions of the service.

    Linux, with the database on this machine.
    """
    print_head("Cost of a call, 3 items, 8 clients", "Call", "Service, ms", "PostgreSQL, ms")
    with service() as (url, main), psycopg.connect(bench.database_url, autocommit=True) as asking:
        measure_service(bench, url, "finish", clients=8, number=200)
        for operation in OPERATIONS:
            calls = prepare_calls(bench, operation)
            measure(bench, url, calls[: len(calls) // 5], 8)
            spent = measure_cost(bench, url, calls[len(calls) // 5 :], service=main, server_process=asking.info.backend_pid)
            print_row(operation, spent.service * 1000, spent.database * 1000)
        _print_updates(asking)
    _print_instructions(bench)


def _print_updates(asking: "psycopg.Connection[Any]") -> None:
    """Print how many rows all calls of this run have updated, and how many of the updates wrote to no index."""
    time.sleep(STATISTICS_SECONDS)
    print_head("Updates of rows", "Table", "Updated", "Of these without a write to an index (HOT)")
    for row in asking.execute(UPDATES):
        print_row(*row)


def _print_instructions(bench: Bench) -> None:
    """Print the instructions of each call, beside those on record."""
    counter = find_counter()
    if counter is None:
        sys.stdout.write("\nInstructions were not counted: neither `perf stat` nor `valgrind` counts on this machine.\n")
        return
    print_head(f"Instructions of a call in the service, by {counter.name}", "Call", "Thousand", "Thousand, on record")
    record = read_record()
    counted = count_instructions(counter, key=bench.key, prepare=lambda operation, number: prepare_calls(bench, operation, number=number))
    for operation, number in counted.items():
        print_row(operation, number // 1000, record.thousand[operation])
