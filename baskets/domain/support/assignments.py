"""The steps of staff about products and findings, as numbered entries of the audit log: assign, unassign, resolve.

The steps about a basket are in its timeline instead: see `attention_repairs`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models.functions import Now

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain import audit_log
from baskets.domain.actors import Actor
from baskets.domain.support.guards import RepairNotApplicable, StaleState
from baskets.domain.validation import require_reason
from baskets.domain.wording import sentence
from baskets.models import BrokenRule, DeskEntry

UPSERT_BROKEN_RULE = Statement(
    "upsert_broken_rule",
    """
INSERT INTO baskets_brokenrule AS known
    (slug, rule, sentence, total, examples, found_at, seen_at, settled_by, note)
VALUES (%s, %s, %s, %s, %s::jsonb, statement_timestamp(), statement_timestamp(), '', '')
ON CONFLICT (slug) DO UPDATE
SET rule = excluded.rule, sentence = excluded.sentence, total = excluded.total, examples = excluded.examples,
    found_at = CASE WHEN known.gone_at IS NULL AND known.settled_at IS NULL THEN known.found_at ELSE excluded.found_at END,
    seen_at = excluded.seen_at, gone_at = NULL, settled_at = NULL, settled_by = '', note = ''
""",
)


@dataclass(frozen=True, kw_only=True)
class LastStep:
    """The last step about a subject.

    :param number: the version of the subject; 0 for none.
    :param assignee: the account to which the subject is assigned; empty for none.
    """

    number: int = 0
    assignee: str = ""


def last_steps(about: str, subjects: Sequence[str]) -> dict[str, LastStep]:
    """Read the last step about each subject.

    :param about: the kind of record.
    :returns: the step by subject; a subject without one is missing.
    """
    steps = DeskEntry.objects.filter(about=about, subject__in=list(subjects), number__isnull=False).order_by("number")
    return {
        subject: LastStep(number=number or 0, assignee=actor if kind == DeskEntry.Kind.TAKEN else "")
        for subject, number, kind, actor in steps.values_list("subject", "number", "kind", "actor")
    }


def last_step(about: str, subject: str) -> LastStep:
    """Read the last step about one subject."""
    return last_steps(about, [subject]).get(subject, LastStep())


def assignees(about: str, subjects: Sequence[str]) -> dict[str, str]:
    """Read to which accounts subjects are assigned.

    :param about: the kind of record.
    :returns: the account by subject; a subject that is not assigned is missing.
    """
    return {subject: step.assignee for subject, step in last_steps(about, subjects).items() if step.assignee}


@transaction.atomic(savepoint=False)
def assign(*, about: str, subject: str, expected_step: int, reason: str, actor: Actor) -> None:
    """Assign a subject to the actor, even if it is assigned to another account.

    Locks nothing: the unique number of the step decides between concurrent calls.

    :param about: the kind of record.
    :param expected_step: the last step that staff have seen.
    :param reason: may be empty.
    :raises ReasonRequired: the reason is too long, or not storable.
    :raises StaleState: there is a later step.
    :raises RepairNotApplicable: the subject is already assigned to the actor.
    """
    require_reason(reason, is_optional=True)
    last = last_step(about, subject)
    if last.number == expected_step and last.assignee == actor.name:
        raise RepairNotApplicable(sentence("It is already assigned to you."))
    _step(DeskEntry.Kind.TAKEN, last, about=about, subject=subject, expected_step=expected_step, note=reason, actor=actor)


@transaction.atomic(savepoint=False)
def unassign(*, about: str, subject: str, expected_step: int, reason: str, actor: Actor) -> None:
    """End the assignment of a subject.

    Locks nothing: the unique number of the step decides between concurrent calls.

    :param about: the kind of record.
    :param expected_step: the last step that staff have seen.
    :param reason: may be empty.
    :raises ReasonRequired: the reason is too long, or not storable.
    :raises StaleState: there is a later step.
    :raises RepairNotApplicable: the subject is not assigned.
    """
    require_reason(reason, is_optional=True)
    last = last_step(about, subject)
    if last.number == expected_step and not last.assignee:
        raise RepairNotApplicable(sentence("It is not assigned."))
    _step(DeskEntry.Kind.HANDED_BACK, last, about=about, subject=subject, expected_step=expected_step, note=reason, actor=actor)


@transaction.atomic(savepoint=False)
def resolve_rule(*, rule: BrokenRule, expected_step: int, reason: str, actor: Actor) -> None:
    """Resolve a finding: the case is closed, and the reason says how. A check that finds it again opens it again.

    :param expected_step: the last step that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: there is a later step.
    :raises RepairNotApplicable: the finding is already resolved, or the last check has not found it.
    """
    require_reason(reason)
    last = last_step("brokenrule", rule.slug)
    _step(DeskEntry.Kind.SETTLED, last, about="brokenrule", subject=rule.slug, expected_step=expected_step, note=reason, actor=actor)
    still_open = BrokenRule.objects.filter(pk=rule.pk, settled_at__isnull=True, gone_at__isnull=True)
    if not still_open.update(settled_at=Now(), settled_by=actor.name, note=reason):
        raise RepairNotApplicable(sentence("The finding is already resolved, or the last check has not found it again."))


@transaction.atomic(savepoint=False)
def record_check(*, checked: int, found: Sequence[Mapping[str, Any]], actor: Actor) -> None:
    """Record the findings of a check of the invariants, for the work list. Repairs nothing.

    :param checked: the number of invariants that were checked.
    :param found: slug, rule, sentence, total and examples of each violated invariant.
    """
    for rule in sorted(found, key=lambda rule: str(rule["slug"])):
        execute(UPSERT_BROKEN_RULE, [rule["slug"], rule["rule"], rule["sentence"], rule["total"], json.dumps(rule["examples"])])
    broken = [rule["slug"] for rule in found]
    BrokenRule.objects.filter(gone_at__isnull=True).exclude(pk__in=broken).update(gone_at=Now())
    data = {"rules": checked, "broken": broken}
    audit_log.record(kind=DeskEntry.Kind.CHECKED, about="brokenrule", data=data, actor=actor)


def _step(kind: DeskEntry.Kind, last: LastStep, *, about: str, subject: str, expected_step: int, note: str, actor: Actor) -> None:
    """Record the step after `expected_step`.

    :param last: the last step, read in this transaction.
    :raises StaleState: the subject has a later step.
    """
    is_stale, number = last.number > expected_step, expected_step + 1
    if is_stale or not audit_log.record_step(kind, about=about, subject=subject, number=number, note=note, actor=actor):
        since = DeskEntry.objects.filter(about=about, subject=subject, number__gt=expected_step)
        raise StaleState(since=list(since.order_by("number")))
