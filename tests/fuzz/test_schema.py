"""Calls made up from the published schema, against the running service: no answer that the schema does not announce."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import LongRun
from tests.fuzz.conftest import Service

PROGRAM = Path(sys.executable).with_name("schemathesis")
# A schema cannot state that a valid call may be refused for the state of a basket, or that a removal with a used Idempotency-Key
# removes nothing, so these checks are off.
UNASKED = "positive_data_acceptance,use_after_free"


def made_up_calls(service: Service, folder: Path, *options: str) -> str:
    """Let calls be made up in all four phases, check every answer in every way, and tell what was found."""
    address = f"http://127.0.0.1:{service.port}"
    done = subprocess.run(
        [
            *(str(PROGRAM), "run", f"{address}/schema", "--url", address, "--header", f"X-API-Key: {service.key}"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--checks", "all", "--exclude-checks", UNASKED),
            *("--continue-on-failure", "--generation-database", "none", "--warnings", "off", "--no-color", *options),
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return "" if done.returncode == 0 else done.stdout[-10_000:] + done.stderr[-1000:]


def test_generated_calls_get_only_published_responses(db: None, service: Service, tmp_path: Path) -> None:
    found = made_up_calls(service, tmp_path, "--seed", "1", "--max-examples", "2")
    assert found == "", found


@pytest.mark.long
def test_many_generated_calls_get_only_published_responses(db: None, service: Service, tmp_path: Path, long_run: LongRun) -> None:
    seconds = str(max(30, round(long_run.seconds)))
    found = made_up_calls(service, tmp_path, "--seed", str(long_run.seed), "--max-time", seconds)
    assert found == "", found
