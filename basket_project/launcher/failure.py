"""The two ways in which a launcher command ends early: a failure told in one sentence, and a stop that was asked for."""

import os
import signal
import types
from pathlib import Path
from typing import NoReturn


class Failure(Exception):
    """What is wrong, in one plain sentence that a person who has never seen this code can act on."""


class UsageFailure(Failure):
    """The command line itself is wrong."""


class StopRequested(BaseException):
    """Ctrl-C, SIGTERM or SIGHUP arrived; not an `Exception`, so that no handler of failures takes it for one."""

    def __init__(self, number: int) -> None:
        super().__init__(f"signal {number}")
        self.number = number


STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _stop(number: int, _frame: types.FrameType | None) -> NoReturn:
    # Only the first signal interrupts; what it sets off is the clean-up, and that must not be cut short by an impatient second one.
    ignore_stop_signals()
    raise StopRequested(number)


def raise_on_stop_signals() -> None:
    """From here on, the first stop signal raises `StopRequested` in the main thread."""
    for number in STOP_SIGNALS:
        # Under nohup the end of the terminal is to be survived, as it was asked for.
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _stop)


def ignore_stop_signals() -> None:
    """From here on, stop signals are left unheard: the clean-up is running."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def os_error_text(error: OSError) -> str:
    """Return what the system says about an error, without number and path."""
    return os.strerror(error.errno) if error.errno else str(error)


def last_lines(path: Path, count: int = 12) -> str:
    """Return the end of a log for a message about what went wrong."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - 20_000))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-count:])
    except OSError as error:
        return f"({path} cannot be read: {os_error_text(error)})"
