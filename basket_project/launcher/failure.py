"""The two ways in which a launcher command ends early: a failure with a one-sentence message, and a stop signal."""

import os
import signal
import types
from pathlib import Path
from typing import NoReturn


class Failure(Exception):
    """An error with a one-sentence message that a newcomer can act on."""


class UsageFailure(Failure):
    """The command line is invalid."""


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP arrived. A `BaseException`, so that no `except Exception` catches it.

    :param number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _stop(number: int, _frame: types.FrameType | None) -> NoReturn:
    # A second signal must not interrupt the clean-up that the first one starts.
    ignore_stop_signals()
    raise StopRequested(number)


def raise_on_stop_signals() -> None:
    """Make the first stop signal raise `StopRequested` in the main thread."""
    for number in STOP_SIGNALS:
        # Under nohup, SIGHUP stays ignored.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def ignore_stop_signals() -> None:
    """Ignore further stop signals during the clean-up."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def os_error_text(error: OSError) -> str:
    """Return the system's message for an error, without number and path."""
    return os.strerror(error.errno) if error.errno else str(error)


def last_lines(path: Path) -> str:
    """Return the last lines of a log for an error message."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 20_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-12:])
    except OSError as error:
        return f"({path} cannot be read: {os_error_text(error)})"
