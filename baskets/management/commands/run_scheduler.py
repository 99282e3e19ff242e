"""`run_scheduler`: runs `expire_baskets` every few seconds, and the work of the night once, in place of cron."""

import logging
import os
import re
import subprocess
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections import deque
from collections.abc import Callable
from datetime import time as time_of_day
from typing import Any

import structlog
from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection

from baskets.db.errors import Fault, fault_of
from baskets.domain.maintenance import schedule
from baskets.management.arguments import bounded_int
from baskets.management.base import ServiceCommand, counted, describe_database_error
from baskets.management.commands.expire_baskets import run_sweeps
from baskets.management.commands.purge_history import DEFAULT_DAYS, MAX_DAYS
from baskets.management.shutdown import graceful_shutdown

log = structlog.get_logger("baskets.scheduler")

STEP_SECONDS = 0.2
STOP_SECONDS = 60


class Night:
    """The commands of a night, one after another, each in its own process beside the sweeps.

    :param commands: the arguments of each command.
    """

    def __init__(self, commands: list[list[str]]) -> None:
        self._commands = commands
        self._waiting: deque[list[str]] = deque()
        self._running: tuple[str, subprocess.Popen[bytes]] | None = None
        self.failed = 0

    def begin(self) -> None:
        """Queue the commands."""
        self._waiting.extend(self._commands)

    def advance(self) -> None:
        """Log the command that has ended, if one has, and start the next."""
        if self._running:
            name, process = self._running
            if process.poll() is None:
                return
            self.failed += process.returncode != 0
            log.log(logging.ERROR if process.returncode else logging.INFO, "scheduled_command_ended", command=name, code=process.returncode)
            self._running = None
        if self._waiting:
            arguments = self._waiting.popleft()
            command = [sys.executable, "-m", "django", *arguments]
            variables = os.environ | {"DJANGO_SETTINGS_MODULE": "basket_project.settings"}
            self._running = arguments[0], subprocess.Popen(command, cwd=settings.BASE_DIR, env=variables, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """Stop the running command after its batch, and wait for it."""
        self._waiting.clear()
        if not self._running:
            return
        name, process = self._running
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        log.info("scheduled_command_stopped", command=name)


class Command(ServiceCommand):
    """Run the sweeps and the work of the night."""

    help = (
        "Run expire_baskets every few seconds, and once a night check_baskets, purge_history and clearsessions, until SIGTERM or Ctrl-C. "
        "Several may run: one of them works, and another takes over when its connection ends."
    )
    supports_dry_run = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--sweep-seconds",
            type=bounded_int(minimum=1, maximum=3600),
            default=5,
            metavar="N",
            help="The pause between two sweeps (default 5).",
        )
        parser.add_argument(
            "--night",
            type=_time_of_day,
            default=time_of_day(3, 17),
            metavar="HH:MM",
            help="When the work of the night begins, in UTC (default 03:17). It is left out where no scheduler runs within the hour.",
        )
        parser.add_argument(
            "--older-than-days",
            type=bounded_int(minimum=1, maximum=MAX_DAYS),
            default=DEFAULT_DAYS,
            metavar="N",
            help=f"The retention of purge_history (default {DEFAULT_DAYS}).",
        )

    def handle(self, *, sweep_seconds: int, night: time_of_day, older_than_days: int, **_: Any) -> None:
        """Work while this process is the leader; try to become it after each pause."""
        work = Night([["check_baskets", "--json"], ["purge_history", "--json", f"--older-than-days={older_than_days}"], ["clearsessions"]])
        leads, begun, checkouts, baskets = False, None, 0, 0
        with graceful_shutdown() as stop:
            while not stop():
                try:
                    led, leads = leads, schedule.lead()
                    if led != leads:
                        log.info("scheduler_leads" if leads else "scheduler_stands_by")
                    if leads:
                        sessions, closed = run_sweeps(dry_run=False, stop=stop)
                        checkouts, baskets = checkouts + sessions.expired, baskets + closed.expired
                        due = schedule.night_due(night)
                        if due is not None and due != begun:
                            begun = due
                            work.begin()
                except (DatabaseError, InterfaceError) as error:
                    if fault_of(error) is Fault.INTERNAL:
                        raise
                    log.warning("scheduler_waits", problem=describe_database_error(error))
                    connection.close()
                work.advance()
                _pause(sweep_seconds, stop)
            work.stop()
        self.print_result(
            text=f"Expired {counted(checkouts, 'checkout')} and {counted(baskets, 'basket')}.",
            checkouts_expired=checkouts,
            baskets_expired=baskets,
            failed_commands=work.failed,
        )


def _pause(seconds: int, stop: Callable[[], bool]) -> None:
    ends = time.monotonic() + seconds
    while not stop() and time.monotonic() < ends:
        time.sleep(STEP_SECONDS)


def _time_of_day(text: str) -> time_of_day:
    """Accept `HH:MM`."""
    if not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text, re.ASCII):
        raise ArgumentTypeError(f"{text[:40]!r} is not a time of day, such as 03:17")
    return time_of_day.fromisoformat(text)
