"""Runs the parts of the benchmark on a migrated database, inside the environment; `python3 -m basket_project bench` makes both."""

import argparse
import logging
import os
import sys

import django
import structlog
from django.core.management import call_command
from django.db import connection

MIN_BASKETS, MAX_BASKETS, MAX_REQUESTS = 200, 20_000, 1_000_000


def bounded(minimum: int, maximum: int) -> object:
    """Make a type of whole numbers within bounds."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not minimum <= int(text) <= maximum:
            message = f"{text!r} is not a whole number from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(message)
        return int(text)

    return parse


def main() -> None:
    """Prepare the database and run the requested parts."""
    from tests.bench import cells, cost, crowd, moves, overload, soak, streams  # noqa: PLC0415 (needs Django)
    from tests.bench.parts import PARTS, Bench  # noqa: PLC0415 (needs Django)

    PARTS.update(cost=cost.cost, overload=overload.overload, webhooks=streams.webhooks, feed=streams.events)
    every, named = list(PARTS), PARTS | {"soak": soak.soak, "cells": cells.cells, "crowd": crowd.crowd, "moves": moves.moves}

    parser = argparse.ArgumentParser(prog="python3 -m basket_project bench", description="Measure the service beside its floor.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(named)} (default: all but soak, cells, crowd and moves)")
    parser.add_argument("--baskets", type=bounded(MIN_BASKETS, MAX_BASKETS), default=1000, help="for one figure (default: %(default)s)")  # type: ignore[arg-type] # A callable, if one that typeshed cannot see.
    parser.add_argument("--requests", type=bounded(1000, MAX_REQUESTS), default=100_000, help="of the part memory (default: %(default)s)")  # type: ignore[arg-type] # As above.
    parser.add_argument("--ten-million", action="store_true", help="let the part baskets go on to ten million; takes an hour and 20 GB")
    parser.add_argument("--minutes", type=bounded(1, 1440), default=65, help="of the part soak (default: %(default)s)")  # type: ignore[arg-type] # As above.
    parser.add_argument("--record", default="", metavar="FILE", help="where the part soak adds each sample, as a line of JSON")
    options = parser.parse_args()
    if unknown := set(options.parts) - named.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    call_command("migrate", verbosity=0, interactive=False)
    _require_durability()
    bench = _bench(options, Bench)
    for name in options.parts or every:
        named[name](bench)
    # One wrong unit, and no figure counts.
    call_command("check_baskets")


def _require_durability() -> None:
    with connection.cursor() as cursor:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            cursor.execute(f"SHOW {setting}")
            if cursor.fetchone() != ("on",):
                sys.exit(f"{setting} is off: what is fast and forgets is not measured here.")


def _bench(options: argparse.Namespace, bench: type) -> object:
    from baskets.domain.access.api_keys import issue_api_key  # noqa: PLC0415 (needs Django)
    from baskets.domain.access.partners import create_partner  # noqa: PLC0415 (needs Django)
    from baskets.domain.actors import Actor  # noqa: PLC0415 (needs Django)
    from tests.bench import seeding  # noqa: PLC0415 (needs Django)

    actor = Actor.system("bench")
    partner = create_partner(name="bench", late_orders="refuse", actor=actor)
    _, key = issue_api_key(partner_name="bench", kind="server", label="", actor=actor)
    seeding.catalog(os.environ["DATABASE_URL"])
    return bench(
        database_url=os.environ["DATABASE_URL"],
        partner=partner.pk,
        key=key,
        baskets=options.baskets,
        requests=options.requests,
        ten_million=options.ten_million,
        minutes=options.minutes,
        record=options.record,
    )


if __name__ == "__main__":
    django.setup()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    main()
