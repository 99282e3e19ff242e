"""The audit log of the admin: assignments of products and findings, exports, checks, sign-ins, and changes of rights.

What concerns a basket is in the timeline of the basket instead: see `guards.record_repair`.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import structlog
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import transaction
from django.db.models import DateTimeField, ExpressionWrapper
from django.db.models.functions import Now

from baskets.db.pipeline import Statement, execute
from baskets.domain.actors import Actor
from baskets.domain.support.guards import RepairNotApplicable, StaleState, require_reason
from baskets.models import BrokenRule, DeskEntry

log = structlog.get_logger("baskets.staff")

# Two writers of the same number: the second waits for the first, then inserts nothing.
INSERT_ENTRY = Statement(
    "insert_entry",
    """
INSERT INTO baskets_deskentry (kind, about, subject, number, at, actor_kind, actor, request_id, note, data)
VALUES (%s, %s, %s, %s, statement_timestamp(), %s, %s, %s, %s, %s::jsonb)
ON CONFLICT (about, subject, number) DO NOTHING
RETURNING id
""",
)
# A caller can cause these entries without limit, so the table takes a bounded number. The log file has all of them.
INSERT_BOUNDED_ENTRY = Statement(
    "insert_bounded_entry",
    """
INSERT INTO baskets_deskentry (kind, about, subject, at, actor_kind, actor, request_id, note, data)
SELECT new.kind, new.about, new.subject, statement_timestamp(), %(actor_kind)s, %(actor)s, %(request_id)s, '', %(data)s::jsonb
FROM (SELECT %(kind)s::varchar AS kind, %(about)s::varchar AS about, %(subject)s::varchar AS subject) AS new
WHERE (
    SELECT count(*) FROM baskets_deskentry AS old
    WHERE old.about = new.about AND old.subject = new.subject AND old.kind = new.kind AND old.at > statement_timestamp() - interval '1 hour'
) < %(most)s
""",
)
BOUNDED_KINDS = frozenset({DeskEntry.Kind.SIGN_IN_FAILED, DeskEntry.Kind.REFUSED})
MAX_BOUNDED_PER_HOUR = 100
# How long an address counts as known after a sign-in from it.
KNOWN_SOURCE_SPAN = timedelta(days=30)
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


def last_step(about: str, subject: str) -> int:
    """Read the number of the last step about a subject, which is the version of the subject; 0 for none."""
    steps = DeskEntry.objects.filter(about=about, subject=subject, number__isnull=False)
    return steps.order_by("-number").values_list("number", flat=True).first() or 0


def assignees(about: str, subjects: Sequence[str]) -> dict[str, str]:
    """Read to which accounts subjects are assigned.

    :param about: the kind of record.
    :returns: the account by subject; a subject that is not assigned is missing.
    """
    steps = DeskEntry.objects.filter(about=about, subject__in=list(subjects), number__isnull=False).order_by("number")
    held: dict[str, str] = {}
    for subject, kind, actor in steps.values_list("subject", "kind", "actor"):
        held.pop(subject, None)
        if kind == DeskEntry.Kind.TAKEN:
            held[subject] = actor
    return held


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
    if last_step(about, subject) == expected_step and assignees(about, [subject]).get(subject) == actor.name:
        raise RepairNotApplicable("It is already assigned to you.")
    _step(DeskEntry.Kind.TAKEN, about=about, subject=subject, expected_step=expected_step, note=reason, actor=actor)


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
    if last_step(about, subject) == expected_step and subject not in assignees(about, [subject]):
        raise RepairNotApplicable("It is not assigned.")
    _step(DeskEntry.Kind.HANDED_BACK, about=about, subject=subject, expected_step=expected_step, note=reason, actor=actor)


@transaction.atomic(savepoint=False)
def resolve_rule(*, rule: BrokenRule, expected_step: int, reason: str, actor: Actor) -> None:
    """Resolve a finding: the case is closed, and the reason says how. A check that finds it again opens it again.

    :param expected_step: the last step that staff have seen.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: there is a later step.
    :raises RepairNotApplicable: the finding is already resolved, or the last check has not found it.
    """
    require_reason(reason)
    _step(DeskEntry.Kind.SETTLED, about="brokenrule", subject=rule.slug, expected_step=expected_step, note=reason, actor=actor)
    still_open = BrokenRule.objects.filter(pk=rule.pk, settled_at__isnull=True, gone_at__isnull=True)
    if not still_open.update(settled_at=Now(), settled_by=actor.name, note=reason):
        raise RepairNotApplicable("The finding is already resolved, or the last check has not found it again.")


@transaction.atomic(savepoint=False)
def record_export(*, list_name: str, rows: int, query: Mapping[str, str], actor: Actor) -> None:
    """Record the export of a list.

    :param rows: the number of exported rows.
    :param query: the search and the filters. A text that staff have typed comes as its `digest`, because it may be a user id.
    """
    _write(DeskEntry.Kind.EXPORTED, about=list_name, data={"rows": rows, "asked": dict(query)}, actor=actor)


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
    _write(DeskEntry.Kind.CHECKED, about="brokenrule", data={"rules": checked, "broken": broken}, actor=actor)


@transaction.atomic(savepoint=False)
def record_access(
    *,
    kind: DeskEntry.Kind,
    account: User | None = None,
    role: Group | None = None,
    data: Mapping[str, Any],
    actor: Actor,
) -> None:
    """Record a sign-in, a refusal or a change of rights, in the audit log and in the log file.

    Failed sign-ins and refusals of one account are stored at most 100 times an hour. A name without an account is not stored:
    it may be a password in the wrong field. The log file names accounts by their primary key.

    :param account: the account that is concerned; None for an unknown name or for a role.
    :param data: the details, without secrets.
    """
    subject = account.get_username() if account else role.name if role else ""
    about = "role" if role else "account"
    if kind in BOUNDED_KINDS:
        row = {"kind": kind, "about": about, "subject": subject, "data": json.dumps(data), "most": MAX_BOUNDED_PER_HOUR}
        execute(INSERT_BOUNDED_ENTRY, row | {"actor_kind": actor.kind, "actor": actor.name, "request_id": actor.request_id})
    else:
        _write(kind, about=about, subject=subject, data=data, actor=actor)
    write = log.warning if kind in BOUNDED_KINDS else log.info
    write(kind.value, account=account and account.pk, role=role and role.pk, request_id=actor.request_id, **data)


def has_signed_in_from(*, account: User, source: str) -> bool:
    """Tell whether an account has signed in from a network address within the last 30 days."""
    since = ExpressionWrapper(Now() - KNOWN_SOURCE_SPAN, output_field=DateTimeField())
    entries = DeskEntry.objects.filter(about="account", subject=account.get_username(), kind=DeskEntry.Kind.SIGNED_IN)
    return entries.filter(at__gt=since, data__source=source).exists()


def digest(text: str) -> str:
    """Compute what the audit log stores of a text that may name a user: equal for equal texts, and useless without the secret key."""
    return "#" + hmac.digest(settings.SECRET_KEY.encode(), f"journal:{text}".encode(errors="backslashreplace"), hashlib.sha256).hex()[:16]


def _step(kind: DeskEntry.Kind, *, about: str, subject: str, expected_step: int, note: str, actor: Actor) -> None:
    """Write the step after `expected_step`.

    :raises StaleState: the subject has a later step.
    """
    is_stale = last_step(about, subject) > expected_step
    if is_stale or not _write(kind, about=about, subject=subject, number=expected_step + 1, note=note, data={}, actor=actor):
        since = DeskEntry.objects.filter(about=about, subject=subject, number__gt=expected_step)
        raise StaleState(since=list(since.order_by("number")))


def _write(
    kind: DeskEntry.Kind,
    *,
    about: str,
    subject: str = "",
    number: int | None = None,
    note: str = "",
    data: Mapping[str, Any],
    actor: Actor,
) -> bool:
    row = [kind, about, subject, number, actor.kind, actor.name, actor.request_id, note, json.dumps(data)]
    return execute(INSERT_ENTRY, row).fetchone() is not None
