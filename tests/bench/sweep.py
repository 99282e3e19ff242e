"""Sweeps once, as `expire_baskets` does, and prints the seconds it takes and those of its processor, without the start of a program."""

import json
import sys
import time

import django

APPLICATION_NAME = "bench sweep"


def main() -> None:
    """Sweep, and print both as JSON."""
    from django.db import connection, connections  # noqa: PLC0415 (needs Django)

    from baskets.management.commands.expire_baskets import run_sweeps  # noqa: PLC0415 (needs Django)

    connections.settings["default"]["OPTIONS"]["application_name"] = APPLICATION_NAME
    connection.ensure_connection()
    started, used = time.perf_counter(), time.process_time()
    run_sweeps(dry_run=False, stop=lambda: False)
    sys.stdout.write(json.dumps([time.perf_counter() - started, time.process_time() - used]))


if __name__ == "__main__":
    django.setup()
    main()
