"""The verdict on a basket, over every state of basket, checkout, flags and stock; and what the pages make of it."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from baskets.admin.core.late_stock import late_stock
from baskets.admin.order_verdict import order_verdict
from baskets.admin.verdict import BasketFacts, FlagFacts, LineFacts, SessionFacts, State, Step, span, verdict
from baskets.models import Attention, CheckoutSession

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
Status, Reason = CheckoutSession.Status, Attention.Reason
REFUSALS = [reason for reason in Reason if reason != Reason.SHORT]


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


# The stock of a bought line of 3: what can be reserved now, and what the sentence says.
STOCK = {
    "all": (3, "All 3 pieces are available."),
    "some": (2, "2 of 3 pieces are available."),
    "one": (1, "1 of 3 pieces is available."),
    "none": (0, "None of the 3 pieces is available."),
    "unlimited": (None, "It needs no stock."),
}


def line(obtainable: int | None = 3, *, stocked: int | None = 3, count: int = 3, short: int = 0, is_released: bool = False) -> LineFacts:
    return LineFacts(count=count, stocked=stocked, obtainable=obtainable, short=short, is_released=is_released)


ACTIVE = SessionFacts(pk=7, status=Status.ACTIVE, expires_at=NOW + timedelta(minutes=9), lines=[line()])
EXPIRED = replace(ACTIVE, status=Status.EXPIRED, expires_at=ago(minutes=5), finished_at=ago(minutes=4), released_at=ago(minutes=4))
ABORTED = replace(EXPIRED, status=Status.ABORTED)
ORDERED = replace(ACTIVE, status=Status.ORDERED, finished_at=ago(minutes=3), total="29.00 EUR")
SESSIONS = [
    ACTIVE,
    replace(ACTIVE, expires_at=ago(seconds=30)),
    replace(ACTIVE, lines=[line(), line(0, stocked=-2, count=2)]),
    replace(ACTIVE, lines=[line(), line(5, stocked=-2, count=2)]),
    EXPIRED,
    ABORTED,
    ORDERED,
    replace(ORDERED, late=True, released_at=ago(minutes=4)),
    replace(ORDERED, reversed_at=ago(minutes=1)),
]


def flag(session: SessionFacts, reason: str = Reason.EXPIRED, **more: object) -> FlagFacts:
    return FlagFacts(pk=3, session=session, reason=reason, created_at=session.expires_at + timedelta(seconds=62), **more)  # type: ignore[arg-type]


def facts(latest: SessionFacts | None = None, state: State = State.OPEN, *flags: FlagFacts, cart: int = 0, saved: int = 0) -> BasketFacts:
    return BasketFacts(
        at=NOW, state=state, closed_at=ago(hours=5), latest=latest, flags=flags, cart=cart, saved=saved, extension=timedelta(minutes=5)
    )


@pytest.mark.parametrize("stock", STOCK)
@pytest.mark.parametrize("reason", REFUSALS)
@pytest.mark.parametrize("session", [EXPIRED, ABORTED], ids=["expired", "aborted"])
def test_a_refused_order_says_when_what_is_there_and_what_to_do(session: SessionFacts, reason: Reason, stock: str) -> None:
    obtainable, sentence = STOCK[stock]
    ended = replace(session, lines=[line(obtainable)])
    found = verdict(facts(ended, State.OPEN, flag(ended, reason)))
    assert found.tone == "bad"
    assert found.text.startswith("The customer may have paid: an order was reported ")
    assert sentence in found.text
    if reason == Reason.BASKET_CHANGED:
        assert "after the basket had changed" in found.text
    else:
        assert ("62 s after the hold ended" if session is EXPIRED else "2 s after the abort") in found.text
    assert ("gone to other customers" in found.text) == (reason == Reason.OUT_OF_STOCK)
    if stock == "none":
        assert found.step == Step(slug="settle", of="flag", pk=3)
    else:
        assert found.step == Step(slug="order-late", of="session", pk=7)
        assert (" short, or refund" in found.text) == (stock in ("some", "one"))


def test_the_sentence_of_the_commonest_call() -> None:
    ended = replace(EXPIRED, lines=[line(3)])
    found = verdict(facts(ended, State.OPEN, flag(ended, Reason.OUT_OF_STOCK)))
    assert found.text == (
        "The customer may have paid: an order was reported 62 s after the hold ended, and its pieces had gone to other customers."
        " Its items went back to the cart. All 3 pieces are available. Order late."
    )


@pytest.mark.parametrize(("is_assigned", "step"), [(False, Step(slug="take", of="flag", pk=3)), (True, None)])
def test_a_report_without_an_order_number_is_not_ordered_by_guess(*, is_assigned: bool, step: Step | None) -> None:
    found = verdict(facts(ABORTED, State.OPEN, flag(ABORTED, Reason.ABORTED, candidates=3, is_assigned=is_assigned)))
    assert "may be about any of 3 checkouts. Compare the payment first." in found.text
    assert found.step == step
    assert verdict(facts(ABORTED, State.OPEN, flag(ABORTED, Reason.ABORTED, candidates=1))).step == Step(
        slug="order-late", of="session", pk=7
    )


def test_a_report_after_an_order_may_repeat_it() -> None:
    found = verdict(facts(ORDERED, State.OPEN, flag(ORDERED, Reason.BASKET_CHANGED, candidates=2)))
    assert "may repeat that order" in found.text
    assert found.step == Step(slug="settle", of="flag", pk=3)


def test_missing_pieces_are_counted_and_further_flags_named() -> None:
    ordered = replace(ORDERED, late=True, lines=[line(0, short=1)])
    found = verdict(facts(ordered, State.OPEN, flag(ordered, Reason.SHORT)))
    assert found.text.startswith("The customer has an order in which 1 of 3 pieces has no stock.")
    refused = flag(EXPIRED, Reason.EXPIRED)
    both = verdict(facts(ordered, State.OPEN, flag(ordered, Reason.SHORT), refused))
    assert both.text.startswith("The customer may have paid")
    assert both.text.endswith("1 more flag is open.")
    assert verdict(facts(ordered, State.OPEN, refused, refused, refused)).text.endswith("2 more flags are open.")


@pytest.mark.parametrize(
    ("session", "sentence", "step", "tone"),
    [
        (SESSIONS[0], "is in checkout and has 3 pieces on hold for 9 min more. Nothing needs to be done.", None, "busy"),
        (replace(ACTIVE, expires_at=NOW + timedelta(seconds=90)), "for 90 s more. Nothing needs to be done, unless", "extend-hold", "busy"),
        (SESSIONS[1], "The hold ended 30 s ago", "finish-as-ordered", "bad"),
        (SESSIONS[2], "2 pieces could not be held at the start. Nothing needs to be done.", None, "busy"),
        (SESSIONS[3], "There is stock now: hold again what failed.", "hold-again", "busy"),
        (replace(ACTIVE, test_mode=True), "A test checkout is active.", None, "busy"),
        (replace(ACTIVE, lines=[line(None, stocked=None)]), "has products that need no stock for 9 min more", None, "busy"),
        (replace(ACTIVE, lines=[line(), line(5, stocked=-2, is_released=True)]), "3 pieces on hold", None, "busy"),
        (EXPIRED, "The last checkout expired 4 min ago without an order", "order-late", "plain"),
        (ABORTED, "All 3 pieces are available. If the payment is real, press Order late.", "order-late", "plain"),
        (replace(ABORTED, lines=[line(1)]), "order late with 2 pieces short, or refund.", "order-late", "plain"),
        (ORDERED, "The customer bought 3 pieces for 29.00 EUR 3 min ago. Nothing needs to be done.", None, "good"),
        (replace(ORDERED, order_no="A-B"), "3 min ago. This is order A-B. Nothing needs to be done.", None, "good"),
        (SESSIONS[7], "3 min ago, late.", None, "good"),
        (SESSIONS[8], "The last order, 3 pieces for 29.00 EUR, was reversed 60 s ago.", None, "plain"),
        (replace(ORDERED, test_mode=True), "was a test and was ordered 3 min ago", None, "plain"),
        (None, "The customer has 2 products in the cart and 1 product saved, and has not started a checkout.", None, "plain"),
    ],
)
def test_without_a_flag_the_checkout_decides(session: SessionFacts | None, sentence: str, step: str | None, tone: str) -> None:
    found = verdict(facts(session, State.OPEN, cart=2, saved=1))
    assert sentence in found.text
    assert (found.step.slug if found.step else None, found.tone) == (step, tone)


def test_a_closed_basket_says_so_and_what_its_last_checkout_came_to() -> None:
    assert verdict(facts()).text == "The basket is empty, and no checkout was ever started."
    deleted = verdict(facts(None, State.DELETED))
    assert deleted.text.startswith("The basket was deleted 5 h ago. The customer sees an empty one;")
    assert deleted.step == Step(slug="restore", of="basket")
    assert verdict(facts(None, State.PAST_ITS_TIME)).step is None
    for state in (State.EXPIRED, State.PAST_ITS_TIME):
        assert verdict(facts(ORDERED, state)).text.startswith("The basket expired 5 h ago.")
        assert "The customer bought 3 pieces" in verdict(facts(ORDERED, state)).text
    assert verdict(facts(ORDERED, State.ERASED)).text.startswith("The user's data were erased.")


@pytest.mark.parametrize(
    ("session", "sentence", "step"),
    [
        (EXPIRED, "This checkout expired 4 min ago without an order, and its items went back to the cart. All 3 pieces are", "order-late"),
        (ABORTED, "This checkout was aborted 4 min ago without an order, and its items went back to the cart. All 3", "order-late"),
        (replace(ABORTED, lines=[line(1)]), "order late with 2 pieces short, or refund.", "order-late"),
        (replace(ORDERED, order_no="A-B"), "The customer bought 3 pieces for 29.00 EUR 3 min ago. Nothing needs to be done.", None),
        (SESSIONS[8], "This order, 3 pieces for 29.00 EUR, was reversed 60 s ago.", None),
        (replace(SESSIONS[8], total=""), "This order, 3 pieces, was reversed 60 s ago.", None),
        (replace(ORDERED, test_mode=True), "This checkout was a test and was ordered 3 min ago. It sold nothing.", None),
        (ACTIVE, "The customer is in checkout and has 3 pieces on hold for 9 min more. Nothing needs to be done.", None),
    ],
)
def test_each_checkout_has_a_sentence_that_does_not_take_it_for_the_last(session: SessionFacts, sentence: str, step: str | None) -> None:
    found = order_verdict(session, at=NOW, extension=timedelta(minutes=5))
    assert found.text.startswith(sentence) or found.text.endswith(sentence)
    assert (found.step.slug if found.step else None) == step


@pytest.mark.parametrize("session", [None, *SESSIONS])
def test_the_sentence_of_a_sandbox_begins_with_what_it_is(session: SessionFacts | None) -> None:
    real = facts(session)
    found = verdict(replace(real, is_sandbox=True))
    assert found == replace(verdict(real), text=f"Sandbox: nothing was sold. {verdict(real).text}")
    if session:
        found, real_one = (order_verdict(session, at=NOW, extension=timedelta(), is_sandbox=is_sandbox) for is_sandbox in (True, False))
        assert found == replace(real_one, text=f"Sandbox: nothing was sold. {real_one.text}")


def test_an_open_flag_of_a_checkout_is_its_sentence() -> None:
    found = order_verdict(EXPIRED, at=NOW, extension=timedelta(), flags=[flag(EXPIRED, Reason.OUT_OF_STOCK)])
    assert found == verdict(facts(EXPIRED, State.OPEN, flag(EXPIRED, Reason.OUT_OF_STOCK)))


def test_every_combination_has_a_verdict() -> None:
    """Sentences end, nothing is left unwritten, and the step is one of a record that the facts name."""
    flags = [(), *((flag(session, reason),) for session in (EXPIRED, ABORTED, ORDERED) for reason in Reason)]
    for session, state, open_flags in itertools.product([None, *SESSIONS], State, flags):
        for obtainable, _ in STOCK.values():
            latest = session and replace(session, lines=[line(obtainable), *session.lines[1:]])
            found = verdict(facts(latest, state, *open_flags))
            assert found.text.endswith(".")
            assert "None " not in found.text.replace("None of the", "")
            assert found.tone in ("good", "busy", "bad", "plain")
            assert found.step is None or found.step.pk in (0, 3, 7)
            assert found.tone == "bad" or not open_flags


def test_lengths_of_time_and_stock_in_words() -> None:
    assert [span(timedelta(seconds=number)) for number in (-5, 0, 62, 119, 120, 7199, 7200, 172799, 172800)] == [
        *("0 s", "0 s", "62 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 days"),
    ]
    assert [str(late_stock([pair])) for pair in ((1, 1), (1, 0), (1, None))] == [
        *("Its 1 piece is available.", "Its 1 piece is not available.", "It needs no stock."),
    ]
    assert str(late_stock([(2, 1), (1, 9), (5, None)])) == "2 of 3 pieces are available."
