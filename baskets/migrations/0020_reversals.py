"""Stores what is reversed, released by staff, reported without an order number and merged; applies the same rules to old rows."""

from django.db import migrations, models
from django.db.models.expressions import CombinedExpression

# Rewriting many rows takes longer than the service allows any statement.
UNLIMITED, LIMITED = "SET statement_timeout = 0", "RESET statement_timeout"
REVERSED = """
UPDATE baskets_checkoutsession s SET reversed_at = event.at
FROM (
    SELECT session_id, min(at) AS at FROM baskets_event
    WHERE kind = 'repaired' AND data ->> 'repair' = 'reverse_order' GROUP BY session_id
) event
WHERE event.session_id = s.id AND s.status = 'ORDERED'
"""
RELEASED = """
UPDATE baskets_checkoutitem i SET released_at = event.at
FROM (
    SELECT session_id, data ->> 'productId' AS product_id, max(at) AS at FROM baskets_event
    WHERE kind = 'repaired' AND data ->> 'repair' = 'release' GROUP BY 1, 2
) event
WHERE event.session_id = i.session_id AND event.product_id = i.product_id AND i.stocked < 0
"""
# Only reports without an order number led to these reasons. Sessions that ended later are no candidates.
CANDIDATES = """
UPDATE baskets_attention a SET candidates = (
    SELECT jsonb_agg(jsonb_build_object(
        'orderNo', order_no, 'status', status, 'finishedAt', to_char(finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
    ) ORDER BY ended_revision DESC, finished_at DESC, id DESC)
    FROM (
        SELECT * FROM baskets_checkoutsession s
        WHERE s.basket_id = a.basket_id AND s.status <> 'ACTIVE' AND (s.id = a.session_id OR s.finished_at <= a.created_at)
        ORDER BY ended_revision DESC, finished_at DESC, id DESC LIMIT 5
    ) session
)
WHERE settled_at IS NULL AND reason IN ('checkout_aborted', 'basket_changed')
"""
SETTLE = """
WITH settled AS (
    UPDATE baskets_attention a
    SET settled_at = greatest(statement_timestamp(), a.created_at), settled_by = 'migrate', note = '{note}', merged = {merged}
    FROM ({which}) chosen WHERE a.id = chosen.id
    RETURNING a.basket_id, a.session_id, a.reason
), line AS (
    SELECT settled.basket_id, session_id, s.order_no, jsonb_agg(reason ORDER BY reason) AS reasons,
           row_number() OVER (PARTITION BY settled.basket_id ORDER BY session_id) AS place
    FROM settled JOIN baskets_checkoutsession s ON s.id = settled.session_id
    GROUP BY settled.basket_id, session_id, s.order_no
), numbered AS (
    UPDATE baskets_basket b SET events = b.events + lines.number
    FROM (SELECT basket_id, count(*) AS number FROM line GROUP BY basket_id) lines WHERE b.id = lines.basket_id
    RETURNING b.id, b.events - lines.number AS events, b.revision
)
INSERT INTO baskets_event
    (basket_id, number, revision, kind, session_id, at, actor_kind, actor, request_id, tracking, data)
SELECT basket_id, events + place, revision, 'attention_settled', session_id, statement_timestamp(), 'system', 'migrate', '', '{{}}',
       jsonb_build_object('orderNo', order_no, 'reasons', reasons, 'cause', '{cause}')
FROM numbered JOIN line ON line.basket_id = numbered.id
"""
OPEN = "SELECT a.id FROM baskets_attention a JOIN baskets_checkoutsession s ON s.id = a.session_id WHERE a.settled_at IS NULL"
SETTLE_ORDERED = SETTLE.format(
    cause="ordered",
    note="The checkout was ordered.",
    merged="false",
    which=f"{OPEN} AND a.reason <> 'short' AND s.status = 'ORDERED' AND a.created_at < s.finished_at",
)
SETTLE_REVERSED = SETTLE.format(
    cause="reversed",
    note="The order was reversed.",
    merged="false",
    which=f"{OPEN} AND a.reason = 'short' AND s.reversed_at IS NOT NULL",
)
SETTLE_MERGED = SETTLE.format(
    cause="merged",
    note="This basket has 20 later open matters.",
    merged="true",
    which="""
    SELECT id FROM (
        SELECT id, row_number() OVER (PARTITION BY basket_id ORDER BY created_at DESC, id DESC) AS place
        FROM baskets_attention WHERE settled_at IS NULL AND reason <> 'short'
    ) a WHERE place > 20
    """,
)


class Migration(migrations.Migration):

    dependencies = [
        ('baskets', '0019_issuer_keys'),
    ]

    operations = [
        migrations.AddField(
            model_name='attention',
            name='candidates',
            field=models.JSONField(help_text='Null: the report named its order number, or that is not known.', null=True),
        ),
        migrations.AddField(
            model_name='attention',
            name='merged',
            field=models.BooleanField(db_default=False, default=False, help_text='Settled by the service, because its basket has as many later open flags as it may have.'),
        ),
        migrations.AddField(
            model_name='checkoutitem',
            name='released_at',
            field=models.DateTimeField(help_text='When staff released its hold. Null: staff did not.', null=True),
        ),
        migrations.AddField(
            model_name='checkoutsession',
            name='reversed_at',
            field=models.DateTimeField(help_text='When staff reversed the order, once and for good.', null=True),
        ),
        migrations.AlterField(
            model_name='event',
            name='kind',
            field=models.CharField(choices=[('guest_created', 'basket of a guest created'), ('item_placed', 'item placed, changed or moved'), ('item_removed', 'item removed'), ('checkout_started', 'checkout started (-> ACTIVE)'), ('checkout_ordered', 'ordered (ACTIVE -> ORDERED)'), ('checkout_aborted', 'aborted (ACTIVE -> ABORTED)'), ('checkout_expired', 'checkout expired (ACTIVE -> EXPIRED)'), ('checkout_ordered_late', 'ordered late (ABORTED or EXPIRED -> ORDERED)'), ('checkout_reversed', 'order reversed (stays ORDERED)'), ('attention_needed', 'an order was refused that somebody may have paid'), ('attention_settled', 'open matters settled'), ('basket_deleted', 'basket deleted'), ('basket_expired', 'basket expired'), ('transfer_offered', 'offered to another device'), ('transfer_redeemed', 'taken over by another device'), ('repaired', 'repaired')], max_length=30),
        ),
        migrations.AddConstraint(
            model_name='attention',
            constraint=models.CheckConstraint(condition=models.Q(('merged', False), ('settled_at__isnull', False), _connector='OR'), name='merged_attention_is_settled'),
        ),
        migrations.AddConstraint(
            model_name='checkoutitem',
            constraint=models.CheckConstraint(condition=models.Q(('released_at__isnull', True), models.Q(('stocked', CombinedExpression(models.F('count'), '*', models.Value(-1))), ('stocked__isnull', False)), _connector='OR'), name='released_item_holds_nothing'),
        ),
        migrations.AddConstraint(
            model_name='checkoutsession',
            constraint=models.CheckConstraint(condition=models.Q(('reversed_at__isnull', True), ('status', 'ORDERED'), _connector='OR'), name='only_an_order_is_reversed'),
        ),
        migrations.RunSQL(
            [UNLIMITED, REVERSED, RELEASED, CANDIDATES, SETTLE_ORDERED, SETTLE_REVERSED, SETTLE_MERGED, LIMITED],
            migrations.RunSQL.noop,
        ),
    ]
