"""Statements behind the domain's back.

`:basket_of_anna` and `:session_of_anna` stand for the keys of a basket and its latest session in the scenario of `test_invariant_checker`.
"""

import re

from django.apps import apps

from baskets.db.constraints import RowCheck

# The proof that must speak; the statements that break its rule; what else speaks of them, with the number of rows.
Violation = tuple[str, list[str], dict[str, int]]


def sql(statement: str) -> str:
    """Put the keys in."""
    basket = r"(SELECT id FROM baskets_basket WHERE user_id = '\1')"
    statement = re.sub(r":session_of_(\w+)", r"(SELECT max(id) FROM baskets_checkoutsession WHERE basket_id = :basket_of_\1)", statement)
    return re.sub(r":basket_of_(\w+)", basket, statement)


def drop(table: str, *constraints: str) -> list[str]:
    """Name the statements that drop constraints of a table, or of the domain over its row."""
    row_checks = {one.name for one in apps.get_model("baskets", table)._meta.constraints if isinstance(one, RowCheck)}
    return [
        f"ALTER DOMAIN baskets_{table}_row DROP CONSTRAINT {name}"
        if name in row_checks
        else f"ALTER TABLE baskets_{table} DROP CONSTRAINT {name}"
        for name in constraints
    ]
