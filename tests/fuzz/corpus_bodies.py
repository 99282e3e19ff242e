"""Malformed bodies: JSON that is none, unknown fields, and values out of bounds."""

from tests.fuzz.cases import (
    INVALID,
    JSON,
    PLACE,
    cases,
    get,
    post,
    whole,
)

BODIES = cases(
    INVALID,
    *whole(
        b"{", b"}", b"[", b"nul", b" ", b"\n", b"\x00", b'"', b'{"ordered": false', b'{"ordered": False}', b"{'ordered': false}",
        b'{"ordered": false,}', b'{"ordered": false} x', b'{"ordered": false}{}', b'{"ordered": false}\x00', b'{"ordered" false}',
        b'\xef\xbb\xbf{"ordered": false}', b'{"ordered": false, "x": "\xff"}', b'{"ordered": false, "\xc0\xaf": 1}',
        b'{"ordered": false, "x": "\xed\xa0\x80"}', b'{"ordered": false, "x": "\xf4\x90\x80\x80"}',
        '{"ordered": false}'.encode("utf-16"), '{"ordered": false}'.encode("utf-16-be"), '{"ordered": false}'.encode("utf-32"),
        b'{"ordered": false, "x": NaN}', b'{"ordered": false, "x": -Infinity}', b'{"ordered": false, "x": 01}',
        b'{"ordered": false, "x": +1}',
        b'{"ordered": false, "x": .5}', b'{"ordered": false, "x": 1.}', b'{"ordered": false, "x": 0x10}',
        b'{"ordered": true, "ordered": false}', b'{"ordered": false, "\\u006frdered": true}', b'{"\\u006frdered": true, "ordered": false}',
        b'{"ordered": false, "x": {"a": 1, "\\u0061": 1}}', b'{"ordered": false, "x": [[{"": 1, "": 2}]]}',
        b'{"ordered": false, "\\u0000": 1, "\\u0000": 2}', b'{"ordered": false, "x": "a\tb"}', b'{"ordered": false, "x": "a\x00b"}',
        b'{"ordered": false /* no */}', b'{"ordered": false} // no', b'{"ordered": false, "x": "\\x41"}', b'{"ordered": false, "x": "\\"}',
        b"[" * 100_000, b'{"a":' * 40_000, b'[{"a":' * 30_000, b"[" * 40 + b"]" * 40,
        b'{"ordered": false, "x": ' + b"[" * 32 + b"]" * 32 + b"}",
        b'{"ordered": false, "x": "' + b'\\"[' * 40_000, b'"' * 200_001, b'"\\' * 100_000, b'["' + b"[" * 200_000,
        b"null", b"true", b"0", b'""', b"[]", b"[{}]", b'[{"ordered": false}]', b"{}",
        *(b'{"ordered": %s}' % value for value in (
            b'"false"', b'"true"', b'"off"', b"0", b"1", b"1.0", b"-0", b"-0.0", b"0e0", b"null", b"[]", b"[false]", b"{}", b'""',
        )),
        *(b'{"ordered": false, "orderNo": %s}' % value for value in (
            b"0", b"true", b"[]", b"{}", b'""', b'"\\n"', b'"\\u2028"', b'"\\u0000"', b'"\\ud800"', b'"' + b"A" * 256 + b'"', b"1e400",
        )),
    ),
)  # fmt: skip


# What is in an unknown field does not matter, so these are calls that name an order which does not exist.
UNKNOWN_FIELDS = cases(
    (422, 422, "order_unknown"),
    *whole(*(
        b'{"ordered": false, "orderNo": "x", %s}' % field
        for field in (
            b'"x": "\\u0000"', b'"\\u0000": 1', b'"x": "\\ud800"', b'"x": ["\\udc00\\ud800"]', b'"\\udfff": {"\\u0000": "\\u0000"}',
            b'"x": 1e400', b'"x": -1e400', b'"x": 1e-400', b'"x": 1e' + b"9" * 5000, b'"x": 1e-' + b"9" * 5000, b'"x": ' + b"9" * 250_000,
            b'"x": -0.' + b"9" * 250_000, b'"x": 0' + b".0" + b"0" * 250_000, b'"x": "' + b"\\u0000" * 40_000 + b'"',
            b'"orderno": "y"', b'"ordered\\u0000": true', b'"__proto__": {"ordered": true}', b'"": ""',
        )
    )),
)  # fmt: skip


COUNTS = cases(
    INVALID,
    *(
        (f"{number}. a count of {value[:24].decode()}", post(b'{"count": %s}' % value, JSON, to=PLACE))
        for number, value in enumerate((
            b"2147483648", b"9223372036854775808", b"1000", b"-2", b"-2.0", b"1.5", b"2.50", b"1e3", b"1e400", b"1e-400", b"-1e-400",
            b"9" * 99, b"9" * 5000, b"9" * 250_000, b"1e999999999", b"1e-999999999", b"1e" + b"9" * 5000, b"1." + b"0" * 250_000 + b"1",
            b'"3"', b'""', b"true", b"false", b"null", b"[]", b"{}", b"[1]",
        ))
    ),
)  # fmt: skip


IDS = cases(
    INVALID,
    *(
        (f"ids of {body[:24].decode()}", post(body, JSON, to="/baskets/products/details"))
        for body in (
            b"{}", b'"p1"', b"null", b"1", b"[1]", b"[null]", b'[["p1"]]', b'[""]', b'["\\n"]', b'["%s"]' % (b"x" * 256),
            b"[%s]" % b",".join([b'"p1"'] * 101), b'{"0": "p1"}',
            b'["a/b"]', b'["p1 "]', b'["\\u00a0p1"]', b'["p1\\u200b"]', b'["p1\\u2028"]', b'["\\udb40\\udc41p1"]', b'[" "]',
        )
    ),
)  # fmt: skip


LISTS = cases(
    INVALID,
    *(
        (f"{name} in the query of {path}", get(f"{path}?{name}=x"))
        for path in ("/baskets", "/baskets/checkout/sessions", "/baskets/events")
        for name in (
            "userid",
            "userId%00",
            "user%49d%20",
            "filter[userId]",
            "__proto__",
            "x" * 10_000,
            "%ff",
            "%F0%9F%98%80",
            "_",
            "nextToken[]",
        )
    ),
    ("1000 unknown fields in the query", get("/baskets?" + "&".join(f"f{number}=" for number in range(1000)))),
    ("a token in the former format, forged", get("/baskets/events?nextToken=W10:1uPq2a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")),
    ("a token in the former format, compressed", get("/baskets/events?nextToken=.eJwDAAAAAAE:1uPq2a:AAAA")),
    ("a token of 10 KB", get("/baskets/events?nextToken=" + "A" * 10_000)),
    ("a token with a plus", get("/baskets/events?nextToken=%2B/%2B/")),
)
