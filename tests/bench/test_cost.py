"""A call does not become dearer unnoticed: its instructions are counted and compared with those on record."""

import sys

import pytest

from baskets.domain.access.api_keys import issue_api_key
from baskets.models import Partner
from tests.bench import seeding
from tests.bench.instructions import count_instructions, find_counter, read_record
from tests.bench.parts import Bench, prepare_calls
from tests.conftest import LongRun
from tests.factories import TESTER
from tests.fuzz.conftest import database_url

# Beyond what two runs differ by.
TOLERANCE = 0.05


@pytest.mark.long
@pytest.mark.django_db(transaction=True)
def test_no_call_became_dearer(partner: Partner, long_run: LongRun, monkeypatch: pytest.MonkeyPatch) -> None:
    record, counter = read_record(), find_counter()
    if counter is None or (counter.name, sys.version) != (record.counter, record.python):
        pytest.skip("the record was made by another program, or for another Python: make one with `bench cost`")
    monkeypatch.setenv("DATABASE_URL", database_url())
    monkeypatch.setenv("DJANGO_ALLOWED_HOSTS", "127.0.0.1")
    _, key = issue_api_key(partner_name=partner.name, actor=TESTER)
    seeding.catalog(database_url())
    bench = Bench(database_url=database_url(), partner=partner.pk, key=key, baskets=200, requests=0, ten_million=False)
    counted = count_instructions(counter, key=key, prepare=lambda operation, number: prepare_calls(bench, operation, number=number))
    long_run.record(**{f"instructions_of_{operation}": number for operation, number in counted.items()})
    dearer = {
        operation: f"{number // 1000} thousand instead of {record.thousand[operation]}"
        for operation, number in counted.items()
        if number > record.thousand[operation] * 1000 * (1 + TOLERANCE)
    }
    assert dearer == {}
