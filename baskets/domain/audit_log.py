"""The audit log: who did what and why, with the values before and after, for everything that staff and operators do.

A repair of a basket is in the timeline of the basket too: see `support.guards.record_repair`. Sweeps, deliveries and calls of
partners are not in the audit log, because timelines and the attempts of webhooks record them. One exception: a change of a webhook by
an API key is in the audit log.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.models import DateTimeField, ExpressionWrapper, QuerySet
from django.db.models.functions import Now

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain.actors import Actor
from baskets.models import DeskEntry

log = structlog.get_logger("baskets.staff")

INSERT_ENTRY = Statement(
    "insert_entry",
    """
INSERT INTO baskets_deskentry (kind, about, subject, partner_id, at, actor_kind, actor, request_id, note, data)
VALUES (%s, %s, %s, %s, statement_timestamp(), %s, %s, %s, %s, %s::jsonb)
""",
)
# Two writers of the same number: the second waits for the first, then inserts nothing.
INSERT_STEP = Statement(
    "insert_step",
    """
INSERT INTO baskets_deskentry (kind, about, subject, number, at, actor_kind, actor, request_id, note, data)
VALUES (%s, %s, %s, %s, statement_timestamp(), %s, %s, %s, %s, '{}'::jsonb)
ON CONFLICT (about, subject, number) DO NOTHING
RETURNING id
""",
)
INSERT_BASKET_ENTRY = Statement(
    "insert_basket_entry",
    """
INSERT INTO baskets_deskentry (kind, about, subject, partner_id, at, actor_kind, actor, request_id, note, data)
SELECT %s, 'basket', id::text, partner_id, statement_timestamp(), %s, %s, %s, %s, %s::jsonb FROM baskets_basket WHERE id = %s
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


def record(
    *,
    kind: DeskEntry.Kind,
    about: str,
    subject: str = "",
    partner_id: int | None = None,
    reason: str = "",
    data: Mapping[str, Any] | None = None,
    actor: Actor,
    using: str = DEFAULT_DB_ALIAS,
) -> None:
    """Record one action.

    :param about: the kind of record, by the name of its model.
    :param subject: the record, by the name under which staff know it. Never a user id.
    :param partner_id: the partner that is concerned; None for an action of the whole service.
    :param data: the details, without secrets; values before and after under `before` and `after`.
    :param using: the alias of the database: of another cell, for what a command does there.
    """
    row = [kind, about, subject, partner_id, actor.kind, actor.name, actor.request_id, reason, json.dumps(data or {})]
    with transaction.atomic(using=using, savepoint=False):
        if using == DEFAULT_DB_ALIAS:
            execute(INSERT_ENTRY, row)
        else:
            with connections[using].cursor() as cursor:
                cursor.execute(INSERT_ENTRY.sql, row)


def record_change(
    *,
    about: str,
    subject: str,
    partner_id: int | None = None,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    reason: str = "",
    actor: Actor,
) -> None:
    """Record the values of a record that a change has altered; nothing if it has altered none.

    :param before: values by name, as JSON takes them.
    :param after: the same names.
    """
    changed = [name for name, value in after.items() if before.get(name) != value]
    if changed:
        data = {"before": {name: before.get(name) for name in changed}, "after": {name: after[name] for name in changed}}
        record(kind=DeskEntry.Kind.CHANGED, about=about, subject=subject, partner_id=partner_id, reason=reason, data=data, actor=actor)


def record_basket_repair(*, basket_id: UUID, repair: str, reason: str, data: Mapping[str, Any], actor: Actor) -> None:
    """Record the repair of a basket, in the transaction of the repair.

    :param repair: the name of the repair, as in the timeline.
    :param data: its details, as in the timeline.
    """
    details = json.dumps({"repair": repair, **data})
    execute(INSERT_BASKET_ENTRY, [DeskEntry.Kind.REPAIRED, actor.kind, actor.name, actor.request_id, reason, details, basket_id])


def record_step(kind: DeskEntry.Kind, *, about: str, subject: str, number: int, note: str, actor: Actor) -> bool:
    """Record the step of this number about a subject.

    :returns: whether it was recorded: of two calls with the same number, one is.
    """
    row = [kind, about, subject, number, actor.kind, actor.name, actor.request_id, note]
    return execute(INSERT_STEP, row).fetchone() is not None


@transaction.atomic(savepoint=False)
def record_export(*, list_name: str, rows: int, query: Mapping[str, str], actor: Actor) -> None:
    """Record the export of a list.

    :param rows: the number of exported rows.
    :param query: the search and the filters. A text that staff have typed comes as its `digest`, because it may be a user id.
    """
    record(kind=DeskEntry.Kind.EXPORTED, about=list_name, data={"rows": rows, "asked": dict(query)}, actor=actor)


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
        record(kind=kind, about=about, subject=subject, data=data, actor=actor)
    write = log.warning if kind in BOUNDED_KINDS else log.info
    write(kind.value, account=account and account.pk, role=role and role.pk, request_id=actor.request_id, **data)


def entries_about(about: str, subject: str) -> QuerySet[DeskEntry]:
    """Read the entries about one record.

    :param about: the kind of record, by the name of its model.
    """
    return DeskEntry.objects.filter(about=about, subject=subject)


def has_signed_in_from(*, account: User, source: str) -> bool:
    """Return whether an account has signed in from a network address within the last 30 days."""
    since = ExpressionWrapper(Now() - KNOWN_SOURCE_SPAN, output_field=DateTimeField())
    entries = DeskEntry.objects.filter(about="account", subject=account.get_username(), kind=DeskEntry.Kind.SIGNED_IN)
    return entries.filter(at__gt=since, data__source=source).exists()


def digest(text: str) -> str:
    """Compute what the audit log stores of a text that may name a user: equal for equal texts, and useless without the secret key."""
    return "#" + hmac.digest(settings.SECRET_KEY.encode(), f"journal:{text}".encode(errors="backslashreplace"), hashlib.sha256).hex()[:16]
