"""The desk's own journal: who took a product or a broken rule in hand, what was settled, exported and checked, and who signed in.

What is about a basket is told by the basket's timeline instead: see `repair`.
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

# Of two who write the same number, one waits for the other and then finds it taken.
INSERT_ENTRY = Statement(
    "insert_entry",
    """
INSERT INTO baskets_deskentry (kind, about, subject, number, at, actor_kind, actor, request_id, note, data)
VALUES (%s, %s, %s, %s, statement_timestamp(), %s, %s, %s, %s, %s::jsonb)
ON CONFLICT (about, subject, number) DO NOTHING
RETURNING id
""",
)
# What a caller can repeat at will fills neither the journal nor the disk: the log has the rest.
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
# How long a source from which a member of staff has signed in counts as known.
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
    """Number the last step about a subject, 0 if there is none: the state that the next one is decided upon."""
    steps = DeskEntry.objects.filter(about=about, subject=subject, number__isnull=False)
    return steps.order_by("-number").values_list("number", flat=True).first() or 0


def assignees(about: str, subjects: Sequence[str]) -> dict[str, str]:
    """Name who has taken each of these subjects and not handed it back."""
    steps = DeskEntry.objects.filter(about=about, subject__in=list(subjects), number__isnull=False).order_by("number")
    held: dict[str, str] = {}
    for subject, kind, actor in steps.values_list("subject", "kind", "actor"):
        held.pop(subject, None)
        if kind == DeskEntry.Kind.TAKEN:
            held[subject] = actor
    return held


@transaction.atomic(savepoint=False)
def assign(*, about: str, subject: str, expected_step: int, reason: str, actor: Actor) -> None:
    """Take a subject in hand, from somebody else where they had it.

    Locks nothing; the number of the step decides between two.

    :param about: the kind of record.
    :param expected_step: the last step when staff decided.
    :raises ReasonRequired: no reason is given.
    :raises StaleState: somebody was faster.
    :raises RepairNotApplicable: whoever takes it has it already.
    """
    require_reason(reason)
    if last_step(about, subject) == expected_step and assignees(about, [subject]).get(subject) == actor.name:
        raise RepairNotApplicable("You have it in hand already.")
    _step(DeskEntry.Kind.TAKEN, about=about, subject=subject, expected_step=expected_step, note=reason, actor=actor)


@transaction.atomic(savepoint=False)
def unassign(*, about: str, subject: str, expected_step: int, reason: str, actor: Actor) -> None:
    """Hand a subject back, so that somebody else takes it. Parameters and refusals as `take`.

    :raises RepairNotApplicable: nobody has it.
    """
    require_reason(reason)
    if last_step(about, subject) == expected_step and subject not in assignees(about, [subject]):
        raise RepairNotApplicable("Nobody has it in hand.")
    _step(DeskEntry.Kind.HANDED_BACK, about=about, subject=subject, expected_step=expected_step, note=reason, actor=actor)


@transaction.atomic(savepoint=False)
def resolve_rule(*, rule: BrokenRule, expected_step: int, reason: str, actor: Actor) -> None:
    """Settle a broken rule: somebody has seen to it, and the reason says how. A check that finds it again opens it again.

    Other parameters and refusals as `take`.

    :raises RepairNotApplicable: it is settled already, or gone.
    """
    require_reason(reason)
    _step(DeskEntry.Kind.SETTLED, about="brokenrule", subject=rule.slug, expected_step=expected_step, note=reason, actor=actor)
    still_open = BrokenRule.objects.filter(pk=rule.pk, settled_at__isnull=True, gone_at__isnull=True)
    if not still_open.update(settled_at=Now(), settled_by=actor.name, note=reason):
        raise RepairNotApplicable("It is settled already, or a check has found it whole again.")


@transaction.atomic(savepoint=False)
def record_export(*, list_name: str, rows: int, query: Mapping[str, str], actor: Actor) -> None:
    """Record an export: who took rows of a list away.

    :param asked: the search and the filters. A text that a member of staff typed comes as its `digest`, because it may be a user id.
    """
    _write(DeskEntry.Kind.EXPORTED, about=list_name, data={"rows": rows, "asked": dict(query)}, actor=actor)


@transaction.atomic(savepoint=False)
def record_check(*, checked: int, found: Sequence[Mapping[str, Any]], actor: Actor) -> None:
    """Record what a check of the rules has found, for the work list. It repairs nothing.

    :param checked: how many rules were looked at.
    :param found: slug, rule, sentence, total and examples of each that is broken.
    """
    for each in sorted(found, key=lambda each: str(each["slug"])):
        execute(UPSERT_BROKEN_RULE, [each["slug"], each["rule"], each["sentence"], each["total"], json.dumps(each["examples"])])
    broken = [each["slug"] for each in found]
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
    """Record a sign-in, a refusal or a change of rights, in the journal and in the log.

    Failed sign-ins and refusals are written at most 100 times an hour for one account. A name that belongs to no account is not
    stored: it may be a password in the wrong field. The log names accounts by their number.

    :param account: whose access it is about; None where a name is unknown, or for a role.
    :param data: what is worth knowing, without secrets.
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
    """Tell whether a member of staff has signed in from a source within the last 30 days."""
    since = ExpressionWrapper(Now() - KNOWN_SOURCE_SPAN, output_field=DateTimeField())
    entries = DeskEntry.objects.filter(about="account", subject=account.get_username(), kind=DeskEntry.Kind.SIGNED_IN)
    return entries.filter(at__gt=since, data__source=source).exists()


def digest(text: str) -> str:
    """Compute what the journal stores of a text that may name a user: equal for equal texts, and useless without the secret."""
    return "#" + hmac.digest(settings.SECRET_KEY.encode(), f"journal:{text}".encode(errors="backslashreplace"), hashlib.sha256).hex()[:16]


def _step(kind: DeskEntry.Kind, *, about: str, subject: str, expected_step: int, note: str, actor: Actor) -> None:
    """Write the next step about a subject, if it is the next.

    :raises StaleState: it is not.
    """
    moved = last_step(about, subject) > expected_step
    if moved or not _write(kind, about=about, subject=subject, number=expected_step + 1, note=note, data={}, actor=actor):
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
