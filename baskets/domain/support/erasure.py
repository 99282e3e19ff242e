"""Erases the data of a user on request. Orders and stock stay accounted for, but no longer name the user."""

import re
import secrets
from typing import Any

from django.db import transaction

from baskets.db.pipeline import execute
from baskets.db.statements import Statement
from baskets.domain import audit_log, slots
from baskets.domain.actors import Actor
from baskets.domain.baskets.lifecycle import check_no_active_session, delete_locked_basket
from baskets.domain.support.guards import RepairNotApplicable, lock_basket_if_unchanged, record_repair
from baskets.domain.validation import require_reason
from baskets.domain.wording import sentence
from baskets.models import Basket, CheckoutSession, Comfort, DeskEntry, Event, GuestToken, IdempotencyRecord, Transfer
from baskets.models.basket_snapshot import Owner
from baskets.models.events import NOTE

ERASED_PREFIX = "erased-"
ERASED_NAME = re.compile(f"{ERASED_PREFIX}[0-9a-f]{{32}}")
# The new key may belong to another lane, which may have passed events of the basket that the old one had not.
REWIND_LANES = Statement(
    "rewind_webhook_lanes",
    """
UPDATE baskets_webhooklane l SET deliverer_id = NULL,
    position = (SELECT min(position) FROM baskets_webhooklane other WHERE other.endpoint_id = l.endpoint_id)
FROM baskets_webhookendpoint e WHERE e.id = l.endpoint_id AND e.partner_id = %s AND NOT e.strict
""",
)
RENAME = Statement("rename", "UPDATE baskets_basket SET id = %s, user_id = %s WHERE id = %s")
# No order, stock count or event order depends on these columns.
CLEAR_EVENT_TRACKING = Statement(
    "clear_event_tracking", "UPDATE baskets_event SET tracking = '{}'::jsonb, request_id = '' WHERE basket_id = %s"
)
# The public id of an event is a digest that includes the former key of the basket, so a guessed user id could be verified with it.
RENAME_EVENTS = Statement(
    "rename_events",
    """
UPDATE baskets_feedposition p SET public_id = gen_random_uuid() FROM baskets_event e WHERE e.basket_id = %s AND p.event_id = e.id
""",
)
CLEAR_SESSION_LOCALES = Statement(
    "clear_session_locales", "UPDATE baskets_checkoutsession SET language = '', country = '' WHERE basket_id = %s"
)
RENAME_ENTRIES = Statement("rename_entries", "UPDATE baskets_deskentry SET subject = %s WHERE about = 'basket' AND subject = %s")
# Note [What names a user in a text]
# Texts by staff may name the user, also those about other baskets, products or webhooks. In a text about the basket itself, the user id
# and the key are replaced wherever they stand as a word. In any other text, a user id of digits alone may be a count, a ticket or a
# date, and a short one of letters alone may be a word or the name of another person. So it is replaced there only if staff have read
# those texts and say so. Every other id is replaced.
OWN_TEXTS = (
    ("baskets_event", "{data,reason}", "basket_id = %(basket)s"),
    ("baskets_attention", "note", "basket_id = %(basket)s"),
    ("baskets_deskentry", "note", "about = 'basket' AND subject = %(basket)s::uuid::text"),
)
# Of the texts about stock, only those about products of the user's checkouts can name the user.
ALL_TEXTS = (
    ("baskets_event", "{data,reason}", "kind = 'repaired'"),
    ("baskets_attention", "note", "note <> ''"),
    ("baskets_deskentry", "note", "note <> ''"),
    ("baskets_brokenrule", "note", "note <> ''"),
    ("baskets_webhookchange", "reason", "reason <> ''"),
    (
        *("baskets_stockadjustment", "reason"),
        """
        product_id IN (
            SELECT i.product_id FROM baskets_checkoutitem i JOIN baskets_checkoutsession s ON s.id = i.session_id
            WHERE s.basket_id = ANY(%(baskets)s::uuid[])
        )
        """,
    ),
)
# A note is about the user, whatever its words are. With the kind as a constant, all repairs of all baskets may be read for those of one.
ERASE_NOTES = (
    Statement(
        "erase_notes",
        """
UPDATE baskets_event SET data = jsonb_set(data, '{reason}', to_jsonb(%(mark)s::text))
WHERE basket_id = %(basket)s AND kind = %(kind)s AND data->>'repair' = %(name)s
""",
    ),
    Statement(
        "erase_journal_of_notes",
        """
UPDATE baskets_deskentry SET note = %(mark)s
WHERE about = 'basket' AND subject = %(basket)s::uuid::text AND data->>'repair' = %(name)s
""",
    ),
)
# Rows in the findings of a check. The next check finds those that are still broken.
REMOVE_EXAMPLES = Statement(
    "remove_examples",
    """
UPDATE baskets_brokenrule SET examples = (
    SELECT coalesce(jsonb_agg(example), '[]') FROM jsonb_array_elements(examples) AS example
    WHERE NOT EXISTS (
        SELECT FROM jsonb_each_text(example) AS cell
        WHERE cell.value ~ %(names)s OR (cell.key = 'user_id' AND cell.value = %(user)s)
    )
)
""",
)
MARK = "[erased]"
MAX_WORD_LENGTH = 12
# The number of texts of each kind that staff read before they decide.
MAX_SHOWN_TEXTS = 50
# Tables without an index by basket: their rows are found by their session.
PARTS_OF_SESSIONS = ("baskets_checkoutitem", "baskets_stockreservation")


@transaction.atomic(savepoint=False)
def erase_user(*, basket: Basket, expected_events: int, means_user_elsewhere: bool = False, reason: str, actor: Actor) -> Basket:
    """Close a basket, and replace its user id by a random name, for good.

    The key of a basket is computed from the user id, so everyone who knows the id could compute it. The basket therefore gets
    the key of its new name, and all rows that refer to it follow. Orders, reservations and the timeline stay, without tracking.
    Stored responses, comfort settings and transfers are deleted; the texts of notes are removed, and other texts by staff lose the
    user id. A user who returns gets a new basket.
    Locks the stored responses, then the basket.
    Source: ADR 24.

    :param expected_events: the number of events of the basket that staff have seen.
    :param means_user_elsewhere: whether an ambiguous user id means this user in the texts that `texts_elsewhere` returns.
        See Note [What names a user in a text].
    :returns: the basket under its new key.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises StaleState: the timeline of the basket has more events.
    :raises RepairNotApplicable: the data were already erased, or the basket no longer exists.
    :raises CheckoutActive: a session is active and must be finished or aborted first.
    :raises OwnSessionLapsed: to the runner: the session of the basket has lapsed.
    """
    # Before the basket lock, because of the lock order; after it again, because a call may have ended in between.
    IdempotencyRecord.objects.filter(basket_id=basket.pk).delete()
    snapshot = lock_basket_if_unchanged(basket, expected_events=expected_events, reason=reason)
    IdempotencyRecord.objects.filter(basket_id=basket.pk).delete()
    check_no_active_session(snapshot)
    if is_erased(basket):
        raise RepairNotApplicable(sentence("The user's data were already erased."))
    after = snapshot if snapshot.hidden_at else delete_locked_basket(snapshot=snapshot, actor=actor)
    record_repair(after, "erase", reason, actor)
    Comfort.objects.filter(pk=basket.pk).delete()
    Transfer.objects.filter(basket_id=basket.pk).delete()
    # A token names the user id. An old device must not get into a new basket of the same user.
    tokens = GuestToken.objects.filter(basket_id=basket.pk, revoked_at__isnull=True)
    tokens.update(revoked_at=snapshot.at, revoked_by=actor.name)
    execute(CLEAR_EVENT_TRACKING, [basket.pk])
    execute(CLEAR_SESSION_LOCALES, [basket.pk])
    execute(RENAME_EVENTS, [basket.pk])
    for statement in ERASE_NOTES:
        execute(statement, {"basket": basket.pk, "kind": Event.Kind.REPAIRED, "mark": MARK, "name": NOTE})
    _redact(basket, means_user_elsewhere=means_user_elsewhere)

    name = (
        slots.generate_in_this_cell(_generate_name, partner_id=basket.partner_id)
        if slots.has_slots(basket.partner_id)
        else _generate_name()
    )
    new = Owner(partner_id=basket.partner_id, user_id=name).basket_id
    sessions = list(CheckoutSession.objects.filter(basket_id=basket.pk).values_list("pk", flat=True))
    # Foreign keys are deferred to COMMIT, so the order of the updates does not matter.
    execute(RENAME, [new, name, basket.pk])
    execute(RENAME_ENTRIES, [str(new), str(basket.pk)])
    for table, column in _children():
        execute(f"UPDATE {table} SET {column} = %s WHERE {column} = %s", [new, basket.pk])  # noqa: S608 (the names are the models')
    for table in PARTS_OF_SESSIONS:
        execute(f"UPDATE {table} SET basket_id = %s WHERE session_id = ANY(%s::bigint[])", [new, sessions])  # noqa: S608 (constants)
    execute(REWIND_LANES, [basket.partner_id])
    return Basket.objects.get(pk=new)


@transaction.atomic(savepoint=False)
def erase_without_basket(*, basket: Basket, reason: str, actor: Actor) -> None:
    """Delete the comfort settings and the stored responses of a user who has no basket. Locks nothing.

    :param basket: an unsaved one, as `user_data.find_stored_data` finds it.
    :raises ReasonRequired: the reason is missing, too long, or not storable.
    :raises RepairNotApplicable: nothing is stored, or the user has a basket by now.
    """
    require_reason(reason)
    if Basket.objects.filter(pk=basket.pk).exists():
        raise RepairNotApplicable(sentence("The user has a basket by now. Look again."))
    deleted = [model.objects.filter(basket_id=basket.pk).delete()[0] for model in (Comfort, IdempotencyRecord)]
    if not any(deleted):
        raise RepairNotApplicable(sentence("The user's data were already erased."))
    # Without a subject: the key is computed from the user id.
    data = {"repair": "erase"}
    audit_log.record(kind=DeskEntry.Kind.REPAIRED, about="basket", partner_id=basket.partner_id, reason=reason, data=data, actor=actor)


def _generate_name() -> str:
    return f"{ERASED_PREFIX}{secrets.token_hex(16)}"


def is_erased(basket: Basket) -> bool:
    """Return whether the data of the user of a basket were erased: its user id is a random name of `erase_user`."""
    return ERASED_NAME.fullmatch(basket.user_id) is not None


def is_ambiguous(user_id: str) -> bool:
    """Return whether the same text may mean something else: digits alone, or at most `MAX_WORD_LENGTH` letters."""
    return (user_id.isascii() and user_id.isdigit()) or (user_id.isalpha() and len(user_id) <= MAX_WORD_LENGTH)


def texts_elsewhere(*baskets: Basket, limit: int) -> list[str]:
    """Read texts by staff that contain the user id of baskets as a word. Those about the basket are left out if it is the only one.

    :param baskets: one or more, all of the same user id.
    :param limit: the number of texts to read of each kind.
    """
    keys = [basket.pk for basket in baskets]
    only = keys[0] if len(keys) == 1 else None
    values = {"names": _pattern(re.escape(baskets[0].user_id)), "basket": only, "baskets": keys, "limit": limit}
    own = {table: where for table, _, where in OWN_TEXTS}
    found = []
    for table, column, where in ALL_TEXTS:
        text, others = _value(column), f"AND ({own[table]}) IS NOT TRUE" if table in own else ""
        query = f"SELECT {text} FROM {table} WHERE {where} {others} AND {text} ~ %(names)s LIMIT %(limit)s"  # noqa: S608 (constants)
        found += [row[0] for row in execute(query, values).fetchall()]
    return found


def _redact(basket: Basket, *, means_user_elsewhere: bool) -> None:
    """Replace the user id and the key of a basket in texts by staff."""
    key = str(basket.pk)
    own = _pattern(f"{re.escape(basket.user_id)}|{key}")
    elsewhere = own if means_user_elsewhere or not is_ambiguous(basket.user_id) else _pattern(key)
    for names, texts in ((own, OWN_TEXTS), (elsewhere, ALL_TEXTS)):
        values = {"names": names, "mark": MARK, "basket": basket.pk, "baskets": [basket.pk]}
        for table, column, where in texts:
            text = _value(column)
            new = f"regexp_replace({text}, %(names)s, %(mark)s, 'g')"
            changed = f"data = jsonb_set(data, '{{reason}}', to_jsonb({new}))" if column != text else f"{column} = {new}"
            execute(f"UPDATE {table} SET {changed} WHERE {where} AND {text} ~ %(names)s", values)  # noqa: S608 (constants)
    execute(REMOVE_EXAMPLES, {"names": elsewhere, "user": basket.user_id})


def _value(column: str) -> str:
    """Return the expression of a text: a column, or the reason in the data of an event."""
    return "data->>'reason'" if column == "{data,reason}" else column


def _pattern(names: str) -> str:
    """Return a regular expression of PostgreSQL for names in any case, but not as part of a longer word."""
    return f"(?i)(?<![[:alnum:]])(?:{names})(?![[:alnum:]])"


def _children() -> list[tuple[str, str]]:
    """List table and column of every foreign key to a basket, read from the models, so that none is missing.

    Without those of `PARTS_OF_SESSIONS`.
    """
    fields: list[Any] = [relation.field for relation in Basket._meta.related_objects]  # noqa: SLF001 (documented, underscore and all)
    columns = [(field.model._meta.db_table, field.column) for field in fields]  # noqa: SLF001
    return [(table, column) for table, column in columns if table not in PARTS_OF_SESSIONS]
