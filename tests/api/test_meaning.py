"""Every valid spelling has the same meaning: numbers, nulls, unknown fields and order numbers."""

import re
from typing import Any

import pytest

from baskets.models import CheckoutSession, Event
from tests.api.conftest import Api, Sells, Stored

PRODUCT = "/baskets/users/ada/products/p1"
SESSIONS = "/baskets/users/ada/checkout/sessions"
FINISH = f"{SESSIONS}/finish-active"


@pytest.fixture(autouse=True)
def shop(sells: Sells) -> None:
    sells("p1", unsold=900)
    sells("p2")


# --- Numbers ------------------------------------------------------------------------------------

WHOLE = {
    "343.0": 343, "343": 343, "1e0": 1, "1E+0": 1, "2e0": 2, "20e-1": 2, "0.2e1": 2, "2.000": 2, "1e2": 100, "9.99e2": 999,
    "2.0000000000000000000000000000000000": 2, "2" + 300 * "0" + "e-300": 2,
}  # fmt: skip


@pytest.mark.parametrize("written", WHOLE, ids=lambda written: written[:20])
def test_whole_number_is_accepted_in_every_json_spelling(api: Api, written: str) -> None:
    body = f'{{"count": {written}}}'.encode()
    answer = api.request("POST", PRODUCT, raw=body)
    assert answer.data["cart"] == [{"productId": "p1", "count": WHOLE[written]}]
    assert f'"count":{WHOLE[written]}}}'.encode() in answer.raw
    api.place("p1", 7)
    assert api.request("PATCH", PRODUCT, raw=body).data["cart"] == [{"productId": "p1", "count": WHOLE[written]}]


@pytest.mark.parametrize("written", ["0", "-0", "0.0", "-0.0", "0e0", "-0e5", "0.00e-99999"])
def test_every_spelling_of_zero_saves_for_later(api: Api, written: str) -> None:
    answer = api.request("POST", PRODUCT, raw=f'{{"count": {written}}}'.encode())
    assert (answer.data["cart"], answer.data["saved"]) == ([], [{"productId": "p1", "count": 1}])


@pytest.mark.parametrize("written", ["-1", "-1.0", "-1e0", "-10e-1"])
def test_every_spelling_of_minus_one_removes(api: Api, written: str) -> None:
    api.place("p1")
    assert api.request("POST", PRODUCT, raw=f'{{"count": {written}}}'.encode()).data["cart"] == []


@pytest.mark.parametrize("written", ["1.0", "0.0", "1e0", "-0.0"])
def test_number_is_refused_as_a_boolean(api: Api, written: str) -> None:
    api.place("p1")
    answer = api.request("POST", SESSIONS, raw=f'{{"stripeUsingSdk": {written}}}'.encode())
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {"stripeUsingSdk"})
    api.start()
    answer = api.request("POST", FINISH, raw=f'{{"ordered": {written}}}'.encode())
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {"ordered"})


# --- Nulls --------------------------------------------------------------------------------------


def test_null_counts_as_absent_in_optional_fields(api: Api, app: Api) -> None:
    api.place("p1", 2)
    assert api.patch(PRODUCT, {"count": None}).data["cart"] == [{"productId": "p1", "count": 2}]
    assert api.post(SESSIONS, {"language": None, "country": None, "stripeUsingSdk": None}).status == 200
    stored = CheckoutSession.objects.get()
    assert (stored.language, stored.country, stored.stripe_using_sdk) == ("", "", False)
    assert api.post(FINISH, {"ordered": True, "orderNo": None}).data["cart"] == []
    api.place("p1", 2)
    assert api.post("/baskets/users/ada/transfer", {"url": None}).data["url"] is None
    assert app.post("/baskets/guests", {"products": None}).data["basket"]["cart"] == []


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", PRODUCT, {"count": None}, "count"),
        ("POST", FINISH, {"ordered": None}, "ordered"),
        ("POST", "/baskets/guests", {"products": [None]}, "products[0]"),
        ("POST", "/baskets/guests", {"products": [{"productId": None}]}, "products[0].productId"),
        ("POST", "/baskets/products/details", [None], "body[0]"),
    ],
)
def test_null_is_refused_in_required_fields(api: Api, method: str, path: str, body: Any, field: str) -> None:
    answer = api.request(method, path, body)
    assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {field})


# --- Unknown fields ------------------------------------------------------------------------------

UNKNOWN = [
    b'"x": "a\\u0000b"', b'"x": "\\ud800"', b'"x": ["\\udc00\\ud800"]', b'"x": {"\\u0000": "\\udfff"}', b'"a\\u0000": 1', b'"\\udfff": 1',
    b'"count\\u0000": 5', b'"x": null', b'"x": 1e400', b'"x": -1e400', b'"x": 1e-400', b'"x": 1e' + b"9" * 50, b'"x": 1e-' + b"9" * 50,
    b'"x": ' + b"9" * 5000, b'"x": -0.' + b"9" * 5000, b'"x": ' + b"9" * 100_000, b'"x": 0.' + b"9" * 100_000, b'"Count": 5', b'"": 5',
    b'"__proto__": {"count": 5}', b'"x": ' + b"[" * 29 + b"]" * 29,
]  # fmt: skip


@pytest.mark.parametrize("field", UNKNOWN, ids=lambda field: field[:24].decode())
def test_unknown_field_is_ignored(api: Api, field: bytes, stored_rows: Stored) -> None:
    assert api.request("POST", PRODUCT, raw=b'{"count": 2, %s}' % field, Idempotency_Key="k").data["cart"] == [
        {"productId": "p1", "count": 2}
    ]
    assert api.request("PATCH", PRODUCT, raw=b'{%s, "count": 3}' % field).status == 200
    assert api.request("POST", SESSIONS, raw=b"{%s}" % field).status == 200
    assert api.request("POST", FINISH, raw=b'{"ordered": true, %s}' % field).data["cart"] == []
    product = b'{"products": [{"productId": "p2", %s}], %s}' % (field, field)
    assert api.request("POST", "/baskets/guests", raw=product).data["basket"]["cart"] == [{"productId": "p2", "count": 1}]
    assert api.request("DELETE", "/baskets/users/ada", raw=b"{%s}" % field).status == 200
    assert [event.data.get("x") for event in Event.objects.all()] == [None] * 6
    assert not re.search(r"a\\x00b|\\ud800|9{50}|__proto__", repr(stored_rows()))


@pytest.mark.parametrize("text", ["a\x00b", "\ud800", "\udc00\ud800", "a\udfff"])
def test_unstorable_text_is_refused_by_field(api: Api, text: str) -> None:
    for path, body, field in (
        (FINISH, {"ordered": True, "orderNo": text}, "orderNo"),
        (SESSIONS, {"language": text}, "language"),
        ("/baskets/users/ada/transfer", {"url": text}, "url"),
        ("/baskets/guests", {"products": [{"productId": text}]}, "products[0].productId"),
        ("/baskets/products/details", [text], "body[0]"),
    ):
        answer = api.post(path, body)
        assert (answer.refusal, answer.fields) == ((422, 3002, "validation_failed"), {field})


# --- Order numbers -------------------------------------------------------------------------------


def typed(order_no: str) -> list[str]:
    """Return the spellings in which people type an order number."""
    plain = order_no.replace("-", "")
    misheard = order_no.replace("0", "O").replace("1", "I")
    return [
        plain, order_no.lower(), f" {order_no} ", order_no.replace("-", " "), " ".join(plain), order_no.replace("-", " - "),
        *(order_no.replace("-", dash) for dash in "\u2010\u2011\u2012\u2013\u2014\u2212\uff0d_."), order_no.replace("-", "\xa0"),
        f"#{order_no}", f"# {plain}", f"{order_no}.", f"({order_no})", misheard, misheard.lower(), order_no.replace("1", "l"),
        order_no.replace("0", "o").replace("1", "L"), order_no.replace("-", "\u200b"), f"\ufeff{order_no}",
        "".join(chr(ord(letter) + 0xFEE0) for letter in plain),
    ]  # fmt: skip


ORDER_NO = "M0R1-7HB9-10QY-QWYP"


@pytest.fixture
def order_no(api: Api) -> str:
    """The order number of a checkout, with every character that is easily confused."""
    api.place("p1", 2)
    api.start()
    CheckoutSession.objects.update(order_no=ORDER_NO)
    return ORDER_NO


@pytest.mark.parametrize("written", [*typed(ORDER_NO), ORDER_NO], ids=ascii)
def test_order_number_is_found_in_every_spelling(api: Api, order_no: str, written: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in written.encode())
    assert api.session(encoded).data["orderNo"] == order_no
    assert [session["orderNo"] for session in api.get(f"/baskets/checkout/sessions?orderNo={encoded}").data] == [order_no]
    assert api.finish(True, order_no=written).data["cart"] == []
    assert api.session(order_no).data["status"] == "ORDERED"
    # A late repeat by number, in the same spelling.
    assert api.finish(True, order_no=written).status == 200
    assert api.finish(False, order_no=written).refusal == (422, 422, "checkout_already_ordered")


@pytest.mark.parametrize("written", ["M0R1-7HB9-10QY-QWY", "M0R1-7HB9-10QY-QWYPP", "M0R1", "VM0R1-7HB9-10QY-QWYP", "#", ".", "-",
                                     "M0R17HB910QYQWYV", "order M0R1-7HB9-10QY-QWYP", "%", "M0R%", "M0R1-7HB9-10QY-QWY_"])  # fmt: skip
def test_other_order_number_is_unknown(api: Api, order_no: str, written: str) -> None:
    encoded = "".join(f"%{byte:02X}" for byte in written.encode())
    assert api.session(encoded).refusal == (404, 404, "order_unknown")
    assert api.get(f"/baskets/checkout/sessions?orderNo={encoded}").data == []
    assert api.finish(True, order_no=written).refusal == (422, 422, "order_unknown")
    assert api.session(order_no).data["status"] == "ACTIVE"
