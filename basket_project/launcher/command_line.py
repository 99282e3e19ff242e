"""Parses the command line of `python3 -m basket_project`, runs the command, and returns its exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from basket_project.launcher.data_folder import DEFAULT
from basket_project.launcher.demo import DemoOptions, demo
from basket_project.launcher.environment import LOCK_NAMES, PROJECT, PYTHON, ensure_environment, print_progress, shell_variables
from basket_project.launcher.failure import Failure, StopRequested, UsageFailure, raise_on_stop_signals
from basket_project.launcher.manage import manage
from basket_project.launcher.run_benchmark import run_benchmark
from basket_project.launcher.run_tests import run_tests
from basket_project.launcher.run_verification import run_verification
from basket_project.launcher.static_files import static_variables
from basket_project.variables import missing_variable

_PROGRAM = "python3 -m basket_project"
_TEST_HELP = f"""usage: {_PROGRAM} test [pytest arguments]

Run the test suite against a temporary PostgreSQL server, or against DATABASE_URL if it is set.
All arguments go to pytest unchanged: -k finish, tests/domain, -x, --help after a --."""


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    :returns: the exit code: 0 done, 1 failed, 2 wrong usage, 128 and the signal's number after a signal.
    """
    raise_on_stop_signals()
    try:
        return _run(list(arguments))
    except UsageFailure as failure:
        print_progress(str(failure))
        return 2
    except Failure as failure:
        print_progress(str(failure))
        return 1
    except StopRequested as stopped:
        return 128 + stopped.number


def _run(arguments: list[str]) -> int:
    # These commands parse their own arguments.
    delegates = {"test": _test, "serve": _serve, "prove": run_verification, "bench": run_benchmark}
    if arguments and arguments[0] in delegates:
        return delegates[arguments[0]](arguments[1:])
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.command == "demo":
        return demo(DemoOptions(port=options.port, data=options.data_dir, as_json=options.json, cells=options.cells))
    if options.command == "manage":
        if not options.arguments:
            raise UsageFailure(f"Name a management command: {_PROGRAM} manage COMMAND ..., for example `manage help`.")
        return manage(options.data_dir, options.arguments)
    ensure_environment(list(dict.fromkeys(["run", *options.locks])))
    static_variables()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=_PROGRAM, description="Set up, try out, test and serve the basket service.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    try_out = commands.add_parser("demo", help="set up the environment, start a database and the service, and print how to use it")
    try_out.add_argument("--port", type=_port, default=8000, help="port of 127.0.0.1 to serve on (default: %(default)s)")
    try_out.add_argument("--json", action="store_true", help="print one line of JSON once the service is ready")
    try_out.add_argument(
        "--cells",
        type=int,
        choices=range(1, 10),
        default=1,
        metavar="N",
        help="start N databases and N services behind HAProxy, where it is installed; the services have the ports after --port",
    )
    _add_data_dir(try_out)

    commands.add_parser("test", help="run the test suite against a temporary PostgreSQL; arguments go to pytest")

    commands.add_parser("prove", help="run the long verification, an hour at most; `prove --help` names its parts")

    commands.add_parser("bench", help="measure the service, half an hour in all; `bench --help` names its parts")

    run = commands.add_parser("manage", help="run a management command against the database of the demo")
    _add_data_dir(run)
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="COMMAND ...", help="the command and its arguments")

    commands.add_parser("serve", help="serve in production: DATABASE_URL and DJANGO_SECRET_KEY from the environment")

    prepare = commands.add_parser("setup", help="create the environment .venv without starting anything")
    # No `choices`: argparse would compare them with the empty list of a bare `setup`.
    names = ", ".join(LOCK_NAMES)
    prepare.add_argument("locks", nargs="*", type=_lock_name, metavar="LOCK", help=f"what to install besides run: {names}")
    return parser


def _add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", type=Path, default=DEFAULT, help="folder for the database and the secrets (default: %(default)s)")


def _lock_name(text: str) -> str:
    if text not in LOCK_NAMES:
        message = f"{text!r} is none of {', '.join(LOCK_NAMES)}"
        raise argparse.ArgumentTypeError(message)
    return text


def _port(text: str) -> int:
    port = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= port <= 65535:
        message = f"{text!r} is not a port between 1 and 65535"
        raise argparse.ArgumentTypeError(message)
    return port


def _test(arguments: list[str]) -> int:
    if arguments in (["--help"], ["-h"]):
        sys.stdout.write(_TEST_HELP + "\n")
        return 0
    return run_tests(arguments[1:] if arguments[:1] == ["--"] else arguments)


def _serve(arguments: list[str]) -> int:
    """Replace this process by the production server, so that signals and exit codes need no forwarding.

    :raises Failure: a required variable is not set.
    """
    help_requested = any(argument in ("-h", "--help") for argument in arguments)
    if not help_requested and (problem := missing_variable()):
        raise Failure(problem)
    ensure_environment(["run"])
    variables = shell_variables() | static_variables()
    os.chdir(PROJECT)
    os.execve(PYTHON, [str(PYTHON), "-m", "basket_project.server", *arguments], variables)  # noqa: S606 - intended
    return 0
