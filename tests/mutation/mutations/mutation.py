"""One mistake in the code, and the tests that notice it."""

from dataclasses import dataclass

CROWDS = "tests/concurrency"
LIFE = "tests/domain"
MODEL = "tests/model_based"
TWINS = "tests/domain/checkout/test_twins.py"
DIRECT_STARTS = "tests/domain/checkout/test_direct_starts.py"
FLAGS = "tests/domain/checkout/test_attention.py"
HTTP = "tests/api"
FAULTS = "tests/chaos"
REPORTS = "tests/domain/stock/test_stock_reports.py"
HISTORIES = "tests/domain/stock/test_stock_histories.py"
REPAIRS = "tests/admin/repairs/test_repairs.py"
COUNTED_STOCK = "tests/admin/repairs/test_counted_stock.py"
TOKENS = "tests/api/auth/test_bearer.py"
PUBLISHED_KEYS = "tests/api/auth/test_jwks_cache.py"
KEY_OUTAGES = "tests/api/auth/test_jwks_outages.py"
WEBHOOKS = "tests/domain/events/test_webhooks.py"
WEBHOOK_ANSWERS = "tests/domain/events/test_webhook_answers.py"
CLIENT_LIMITS = "tests/api/test_client_limits.py"
KEY_MISUSE = "tests/domain/support/test_key_misuse.py"


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mistake.

    :param name: the wrong behaviour, as a sentence.
    :param place: dotted name of the function, method or constant that holds the mistake. It limits where `old` is searched.
    :param old: the words to replace. They occur once in the place; white space may differ.
    :param new: the replacement. Empty or `pass` where a statement or a member is deleted.
    :param why: why a developer would make this mistake.
    :param tests: files or folders, in the order in which they run. The first failure proves that the mistake is noticed.
    """

    name: str
    place: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]
