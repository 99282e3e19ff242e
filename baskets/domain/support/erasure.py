"""A user's data erased at their wish: what was bought stays accounted for, and by whom is nowhere told any more."""

import re
import secrets
from typing import Any

from django.db import transaction

from baskets.db.pipeline import Statement, execute
from baskets.domain.actors import Actor
from baskets.domain.baskets.lifecycle import check_no_active_session, delete_locked_basket
from baskets.domain.support.guards import RepairNotApplicable, lock_if_unchanged, record_repair
from baskets.models import Basket, Comfort, Event, GuestToken, IdempotencyRecord, Transfer
from baskets.models.basket_snapshot import Owner

ERASED_PREFIX = "erased-"
RENAME = Statement("rename", "UPDATE baskets_basket SET id = %s, user_id = %s WHERE id = %s")
# Nothing of these columns is needed for an order, a stock count or the order of events.
CLEAR_EVENT_TRACKING = Statement(
    "clear_event_tracking", "UPDATE baskets_event SET tracking = '{}'::jsonb, request_id = '' WHERE basket_id = %s"
)
# The id of an event is a digest that the former key of the basket is part of, so it could be computed by a guess.
RENAME_EVENTS = Statement(
    "rename_events",
    """
UPDATE baskets_feedposition p SET public_id = gen_random_uuid() FROM baskets_event e WHERE e.basket_id = %s AND p.event_id = e.id
""",
)
CLEAR_SESSION_LOCALES = Statement(
    "clear_session_locales", "UPDATE baskets_checkoutsession SET language = '', country = '' WHERE basket_id = %s"
)
# What staff wrote may name the user. Of texts that belong to no basket, those about products that the user had in checkout.
REDACT_TEXTS = (
    """
UPDATE baskets_event SET data = jsonb_set(data, '{reason}', to_jsonb(regexp_replace(data->>'reason', %(names)s, %(mark)s, 'g')))
WHERE basket_id = %(basket)s AND data->>'reason' ~ %(names)s
""",
    """
UPDATE baskets_attention SET note = regexp_replace(note, %(names)s, %(mark)s, 'g') WHERE basket_id = %(basket)s AND note ~ %(names)s
""",
    """
UPDATE baskets_stockadjustment SET reason = regexp_replace(reason, %(names)s, %(mark)s, 'g')
WHERE product_id IN (SELECT product_id FROM baskets_checkoutitem WHERE basket_id = %(basket)s) AND reason ~ %(names)s
""",
    "UPDATE baskets_deskentry SET note = regexp_replace(note, %(names)s, %(mark)s, 'g') WHERE note <> '' AND note ~ %(names)s",
    # Rows that a check has found. The next check finds again what is still broken.
    """
UPDATE baskets_brokenrule SET examples = (
    SELECT coalesce(jsonb_agg(example), '[]') FROM jsonb_array_elements(examples) AS example
    WHERE NOT EXISTS (SELECT FROM jsonb_each_text(example) AS cell WHERE cell.value ~ %(names)s)
)
""",
)
MARK = "[erased]"


@transaction.atomic(savepoint=False)
def erase_user(*, basket: Basket, expected_events: int, reason: str, actor: Actor) -> Basket:
    """Empty and hide a basket, and put a random name in the place of its user id, for good.

    The key of a basket is computed from the user id, and could be computed again by whoever knows that: so the basket gets
    the key of its new name, and everything that hangs on it follows. Orders, reservations and the timeline stay, without
    tracking; remembered answers, comfort settings and transfers go, and what staff wrote loses the user id.
    The user, should they come back, begins anew.
    Locks the remembered answers, then the basket. Other parameters and refusals as `checkout_repairs.finish_as_ordered`.
    Source: ADR 24.

    :returns: the basket under its new name.
    :raises RepairNotApplicable: it was erased before.
    :raises CheckoutActive: a session is active; it is finished or aborted first.
    :raises OwnSessionLapsed: its session has lapsed.
    """
    # Before the basket, because that is the order of locks; and after it, because a call may have ended between.
    IdempotencyRecord.objects.filter(basket_id=basket.pk).delete()
    contents = lock_if_unchanged(basket.pk, expected_events=expected_events, reason=reason)
    IdempotencyRecord.objects.filter(basket_id=basket.pk).delete()
    check_no_active_session(contents)
    if is_erased(basket):
        raise RepairNotApplicable("The user's data were erased before.")
    after = contents if contents.hidden_at else delete_locked_basket(contents=contents, actor=actor)
    record_repair(after, "erase", reason, actor)
    Comfort.objects.filter(pk=basket.pk).delete()
    Transfer.objects.filter(basket_id=basket.pk).delete()
    # A token names the user id, under which the user may begin anew; a device of before must not get in there.
    tokens = GuestToken.objects.filter(basket_id=basket.pk, revoked_at__isnull=True)
    tokens.update(revoked_at=contents.at, revoked_by=actor.name)
    execute(CLEAR_EVENT_TRACKING, [basket.pk])
    execute(CLEAR_SESSION_LOCALES, [basket.pk])
    execute(RENAME_EVENTS, [basket.pk])
    # The user id or the key, not as a part of a longer word.
    names = f"(?<![[:alnum:]])(?:{re.escape(basket.user_id)}|{basket.pk})(?![[:alnum:]])"
    for statement in REDACT_TEXTS:
        execute(statement, {"names": names, "mark": MARK, "basket": basket.pk})

    name = f"{ERASED_PREFIX}{secrets.token_hex(16)}"
    new = Owner(partner_id=basket.partner_id, user_id=name).basket_id
    # Foreign keys are checked at the commit, so the order of these does not matter.
    execute(RENAME, [new, name, basket.pk])
    for table, column in _children():
        execute(f"UPDATE {table} SET {column} = %s WHERE {column} = %s", [new, basket.pk])  # noqa: S608 (the names are the models')
    return Basket.objects.get(pk=new)


def is_erased(basket: Basket) -> bool:
    """Tell whether the user of a basket was erased."""
    return Event.objects.filter(basket_id=basket.pk, kind=Event.Kind.REPAIRED, data__repair="erase").exists()


def _children() -> list[tuple[str, str]]:
    """Every table that names a basket, and the column it does so by: read from the models, so that none is left out."""
    fields: list[Any] = [relation.field for relation in Basket._meta.related_objects]  # noqa: SLF001 (documented, underscore and all)
    return [(field.model._meta.db_table, field.column) for field in fields]  # noqa: SLF001
