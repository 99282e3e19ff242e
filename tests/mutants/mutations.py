"""The mistakes that are likeliest in this code: each a text, what somebody would have written instead, and who should notice."""

from dataclasses import dataclass

CROWDS = "tests/races"
LIFE = "tests/domain"
MODEL = "tests/model"
HTTP = "tests/api"
FAULTS = "tests/faults"


@dataclass(frozen=True, kw_only=True)
class Mutation:
    """One mistake.

    :param why: how one comes to make it.
    :param tests: where it should be noticed; looked at in this order.
    """

    name: str
    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        name="the basket is not locked",
        file="baskets/domain/changes.py",
        old="SELECT 1 FROM baskets_basket WHERE id = %s FOR NO KEY UPDATE",
        new="SELECT 1 FROM baskets_basket WHERE id = %s",
        why="a lock clause is lost when a statement is rewritten",
        tests=(CROWDS,),
    ),
    Mutation(
        name="stock rows are locked in any order",
        file="baskets/domain/stock.py",
        old="ORDER BY s.product_id\nFOR NO KEY UPDATE OF s",
        new="FOR NO KEY UPDATE OF s",
        why="the order looks like decoration",
        tests=(CROWDS,),
    ),
    Mutation(
        name="stock rows are not locked before they are taken",
        file="baskets/domain/stock.py",
        old="ORDER BY s.product_id\nFOR NO KEY UPDATE OF s",
        new="ORDER BY s.product_id",
        why="the update after it locks as well, but too late",
        tests=(CROWDS,),
    ),
    Mutation(
        name="the last piece is never sold",
        file="baskets/domain/stock.py",
        old="AND available >= %s",
        new="AND available > %s",
        why="the commonest slip there is",
        tests=(CROWDS, LIFE),
    ),
    Mutation(
        name="a single product is taken without looking",
        file="baskets/domain/stock.py",
        old="WHERE product_id = %s AND available >= %s",
        new="WHERE product_id = %s AND %s > 0",
        why="the check is thought to have been made before",
        tests=(CROWDS, LIFE),
    ),
    Mutation(
        name="stock rows are given back without an ordered lock",
        file="baskets/domain/stock.py",
        old="    if len(pieces) > 1:\n",
        new="    if not pieces:\n",
        why="giving back looks harmless",
        tests=(CROWDS, LIFE),
    ),
    Mutation(
        name="shortfall is not paid off",
        file="baskets/domain/stock.py",
        old="available + greatest(back.pieces - s.shortfall, 0)",
        new="available + back.pieces",
        why="shortfall is rare, and forgotten",
        tests=(LIFE,),
    ),
    Mutation(
        name="what was sold after a report is not subtracted",
        file="baskets/domain/stock.py",
        old="r.status = 'SOLD' AND r.ended_at > %s::timestamptz",
        new="r.status = 'SOLD' AND r.ended_at < %s::timestamptz",
        why="a comparison is turned round",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="returning pieces overwrite those in the cart",
        file="baskets/domain/lists.py",
        old="count=line.count + (there.count if there else 0)",
        new="count=line.count",
        why="adding overwrites, so returning does too",
        tests=(LIFE,),
    ),
    Mutation(
        name="a returning product stays saved",
        file="baskets/domain/lists.py",
        old="        saved = _without(saved, line.product_id)\n    ordered",
        new="    ordered",
        why="the third list is forgotten",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="a returning product goes to the end",
        file="baskets/domain/lists.py",
        old="position=min(line.position, there.position) if there else line.position",
        new="position=there.position if there else line.position",
        why="the place in the cart is thought to be the one that counts",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="a late order takes more than came back",
        file="baskets/domain/lists.py",
        old="return replace(contents, cart=tuple(line for line in left if line.count > 0))",
        new="return replace(contents, cart=tuple(line for line in contents.cart if line.product_id not in leaving))",
        why="taking the whole item is simpler",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="baskets of two partners are one",
        file="baskets/models/baskets.py",
        old='f"{partner_id}:{user_id}"',
        new='f"{user_id}"',
        why="user ids look unique",
        tests=(HTTP, LIFE),
    ),
    Mutation(
        name="an Idempotency-Key is not bound to the body",
        file="baskets/api/idempotency.py",
        old="hashlib.sha256(body).hexdigest()",
        new='""',
        why="the path is thought to be enough",
        tests=(HTTP,),
    ),
    Mutation(
        name="an Idempotency-Key is for all baskets",
        file="baskets/domain/idempotency.py",
        old="    if execute(CLAIM, [basket_id, key,",
        new="    basket_id = UUID(int=0)\n    if execute(CLAIM, [basket_id, key,",
        why="a key that is random needs no scope, it seems",
        tests=(HTTP,),
    ),
    Mutation(
        name="holds are ended twice",
        file="baskets/domain/transitions.py",
        old="WHERE session_id = %s AND basket_id = %s AND status = 'HELD'",
        new="WHERE session_id = %s AND basket_id = %s",
        why="a session that is active has held reservations only, it seems",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="an order can be aborted",
        file="baskets/domain/transitions.py",
        old="    Session.ABORTED: {Session.ORDERED},",
        new="    Session.ORDERED: {Session.ABORTED},\n    Session.ABORTED: {Session.ORDERED},",
        why="somebody wants to undo an order",
        tests=(LIFE,),
    ),
    Mutation(
        name="an abort by the partner is overruled",
        file="baskets/domain/checkout.py",
        old="if session.status == Session.ABORTED and order_no is None:",
        new="if session.status == Session.ABORTED and order_no:",
        why="a condition is turned round",
        tests=(HTTP, LIFE),
    ),
    Mutation(
        name="the last session is meant whatever has changed since",
        file="baskets/domain/checkout.py",
        old="if last is None or last.ended_revision != contents.revision:",
        new="if last is None:",
        why="a repeat is the usual case",
        tests=(HTTP, LIFE),
    ),
    Mutation(
        name="failed items are ordered late",
        file="baskets/domain/late_orders.py",
        old=" AND coalesce(i.stocked, 1) > 0\n",
        new="\n",
        why="all items of the session are read",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="there is no grace for late orders",
        file="baskets/domain/late_orders.py",
        old="contents.at > end + conf.grace()",
        new="contents.at > end",
        why="the end of the hold is taken for the end of everything",
        tests=(LIFE,),
    ),
    Mutation(
        name="an old basket comes back with a late order",
        file="baskets/domain/late_orders.py",
        old="if not contents.present and contents.hidden_at is None:",
        new="if False:",
        why="the case is rare, and looks like dead code",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="lapsed holds are not reclaimed",
        file="baskets/domain/transactions.py",
        old="            expiry.reclaim(needed=found.needed)\n",
        new="",
        why="the sweep will do it",
        tests=(LIFE, CROWDS),
    ),
    Mutation(
        name="a session is expired without looking again",
        file="baskets/domain/expiry.py",
        old="if lock(basket_id) and (contents := read_contents(basket_id)) and contents.lapsed:",
        new="if lock(basket_id) and (contents := read_contents(basket_id)) and contents.session:",
        why="it was seen to have lapsed a moment ago",
        tests=(LIFE, CROWDS),
    ),
    Mutation(
        name="the sweep expires what it found without looking again",
        file="baskets/domain/expiry.py",
        old="for contents in locked_and_free(due) if contents.lapsed]",
        new="for contents in locked_and_free(due) if contents.session]",
        why="the list of candidates says so",
        tests=(LIFE,),
    ),
    Mutation(
        name="the sweep empties what it found without looking again",
        file="baskets/domain/expiry.py",
        old="if contents.hidden_at is None and not contents.present]",
        new="if contents.hidden_at is None]",
        why="the list of candidates says so",
        tests=(LIFE,),
    ),
    Mutation(
        name="the sweep waits for baskets in use",
        file="baskets/domain/changes.py",
        old="ORDER BY id FOR NO KEY UPDATE SKIP LOCKED",
        new="ORDER BY id FOR NO KEY UPDATE",
        why="skipping looks like losing",
        tests=(FAULTS, CROWDS),
    ),
    Mutation(
        name="the clock is read by the transaction",
        file="baskets/models/contents.py",
        old="greatest(statement_timestamp(), b.last_changed_at) AS at",
        new="greatest(now(), b.last_changed_at) AS at",
        why="`now()` is what everybody writes",
        tests=(LIFE, CROWDS),
    ),
    Mutation(
        name="an active checkout does not keep its basket",
        file="baskets/models/contents.py",
        old="(self.session is not None or self.expires_at > self.at)",
        new="self.expires_at > self.at",
        why="the time of the basket is thought to be all",
        tests=(LIFE, MODEL),
    ),
    Mutation(
        name="a change is not counted",
        file="baskets/domain/changes.py",
        old="revision=before.revision + 1,",
        new="revision=before.revision,",
        why="the time of the change is thought to be enough",
        tests=(LIFE,),
    ),
    Mutation(
        name="two checkouts of a basket can be active",
        file="baskets/migrations/0001_initial.py",
        old="fields=('basket',), name='one_active_checkout_per_basket'",
        new="fields=('basket', 'order_no'), name='one_active_checkout_per_basket'",
        why="a migration is written again by hand",
        tests=("tests/models", CROWDS),
    ),
    Mutation(
        name="a deadlock reaches the caller",
        file="baskets/database.py",
        old='    "40P01",  # deadlock_detected\n',
        new="",
        why="there are no deadlocks, since locks have an order",
        tests=(FAULTS,),
    ),
    Mutation(
        name="a lost commit is repeated",
        file="baskets/domain/retries.py",
        old=" and not returned\n",
        new="\n",
        why="a lost connection is a lost transaction, it seems",
        tests=(FAULTS,),
    ),
    Mutation(
        name="a dead connection reaches the caller",
        file="baskets/domain/retries.py",
        old="if not left or not (lost or ",
        new="if not left or not (",
        why="the API's first statement finds it out, it seems",
        tests=(FAULTS,),
    ),
    Mutation(
        name="a piece that comes free is sold out",
        file="baskets/domain/checkout.py",
        old="if lapsed or (reclaim and any(there[p][0] >= wanted[p] for p in short)):",
        new="if lapsed:",
        why="the second question looks like the first",
        tests=("tests/races/test_controls.py",),
    ),
    Mutation(
        name="a refused order is flagged every time",
        file="baskets/domain/attention.py",
        old="FROM flag WHERE b.id = flag.basket_id",
        new="WHERE b.id = %(basket)s",
        why="a join that looks idle is taken away",
        tests=(LIFE, HTTP),
    ),
    Mutation(
        name="a worker that is killed twice ends the service",
        file="basket_project/server.py",
        old="            self.respawned_wrks.pop(idx, None)\n",
        new="            pass\n",
        why="the process server is thought to know best",
        tests=("tests/project/test_server.py",),
    ),
)
