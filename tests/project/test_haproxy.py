"""The configuration that `haproxy_config` prints, in a real HAProxy before servers that name their cell."""

import contextlib
import http.client
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

import pytest

from basket_project.launcher.cluster import free_port
from baskets.domain.cells.proxy import render_haproxy_config
from baskets.domain.cells.slot_division import divide, render_slot_map
from baskets.domain.slots import slot_of

HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
DIVISION = divide(3)
USERS = ["demo-anna", "\u00fcber+x y", "%zz", "..", "a?b", "x" * 255, *(f"user-{number}" for number in range(40))]


class Server(BaseHTTPRequestHandler):
    """Answers every call with the number of its cell."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        answer = str(self.server.cell).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_GET  # noqa: N815 (the base class looks for this name)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextlib.contextmanager
def server(cell: int, port: int = 0) -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", port), Server) as running:
        running.cell = cell  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield running.server_address[1]
        finally:
            running.shutdown()
            thread.join()


def require_haproxy() -> str:
    """Return the path of HAProxy; skip the test where there is none."""
    if HAPROXY is None:
        if os.environ.get("HAPROXY_TESTS") == "required":
            pytest.fail("There is no HAProxy, and HAPROXY_TESTS says that it is required.")
        pytest.skip("There is no HAProxy on this machine.")
    return HAPROXY


@contextlib.contextmanager
def haproxy(config: Path) -> Iterator[None]:
    program = require_haproxy()
    checked = subprocess.run([program, "-c", "-f", str(config)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "WARNING" not in checked.stderr, checked.stderr
    with subprocess.Popen([program, "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield
        finally:
            process.kill()


def call(port: int, path: str, *, method: str = "GET", host: str = "baskets.example.com") -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.closing(connection):
        connection.request(method, path, headers={"Host": host})
        response = connection.getresponse()
        return response.status, response.read().decode(), dict(response.headers)


def answer_of(port: int, path: str, status: int) -> tuple[int, str, dict[str, str]]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if (answer := call(port, path))[0] == status:
                return answer
        time.sleep(0.1)
    pytest.fail(f"{path} was never answered with {status}")


def test_each_call_reaches_the_cell_of_its_user(tmp_path: Path) -> None:
    slot_map, config, port = tmp_path / "slots.map", tmp_path / "haproxy.cfg", free_port()
    slot_map.write_text(render_slot_map(DIVISION, partners={7: [3 if slot < 32 else 2 for slot in range(64)]}))
    with server(1) as one, server(2) as two, server(3) as three:
        cells = [[f"127.0.0.1:{cell}"] for cell in (one, two, three)]
        apart = {"partner_hosts": {"seven.example.com": 7}, "with_slots_of": {7: [2, 3]}}
        config.write_text(
            render_haproxy_config(cells=cells, bind=f"127.0.0.1:{port}", map_file=str(slot_map), with_slots=[1, 2, 3], **apart)  # type: ignore[arg-type]
        )
        with haproxy(config):
            answer_of(port, "/livez", 200)
            for user in USERS[-9:]:
                cell = "3" if slot_of(user) < 32 else "2"
                assert call(port, f"/baskets/users/{user}", host=f"Seven.example.com:{port}")[1] == cell
            assert {call(port, "/baskets/guests", method="POST", host="seven.example.com")[1] for _ in range(6)} == {"2", "3"}
            assert call(port, "/baskets/events", host="seven.example.com")[0] == 421
            for user in USERS:
                cell = str(DIVISION[slot_of(user)])
                path = f"/baskets/users/{quote(user, safe='')}"
                assert {call(port, prefix + path + rest)[1] for prefix in ("", "/v2") for rest in ("", "/products/p?x=1")} == {cell}, user
                assert call(port, f"/baskets/transfers/{quote(user, safe='')}")[1] == cell
                if user.replace("-", "").isalnum():
                    assert call(port, f"/baskets/guests?jayToken={user}", method="POST")[1] == cell
            # Not encoded as it should be, but plain.
            assert call(port, "/baskets/users/%zz")[1] == str(DIVISION[slot_of("%zz")])
            assert {call(port, "/baskets/guests", method="POST")[1] for _ in range(6)} == {"1", "2", "3"}
            assert call(port, "/admin/")[1] == "1"
            for path in ("/baskets", "/baskets/events?limit=1", "/v2/baskets/checkout/sessions", "/baskets/webhooks/wh-1/test"):
                status, body, headers = call(port, path)
                assert (status, json.loads(body)["error"]["details"]["reason"]) == (421, "wrong_cell")
                assert headers["content-type"] == "application/json"
                assert call(port, path, host="cell4.baskets.example.com")[0] == 421
                assert [call(port, path, host=f"cell{cell}.baskets.example.com")[1] for cell in (1, 2, 3)] == ["1", "2", "3"]


def test_without_its_server_a_cell_is_unavailable_and_the_others_answer(tmp_path: Path) -> None:
    slot_map, config, port, gone = tmp_path / "slots.map", tmp_path / "haproxy.cfg", free_port(), free_port()
    slot_map.write_text(render_slot_map(divide(2)))
    here, there = (next(user for user in USERS if divide(2)[slot_of(user)] == cell) for cell in (1, 2))
    with server(1) as one:
        cells = [[f"127.0.0.1:{one}"], [f"127.0.0.1:{gone}"]]
        config.write_text(render_haproxy_config(cells=cells, bind=f"127.0.0.1:{port}", map_file=str(slot_map), with_slots=[1, 2]))
        with haproxy(config):
            _, body, headers = answer_of(port, f"/baskets/users/{quote(there, safe='')}", 503)
            assert json.loads(body)["error"] == {
                "code": 503,
                "message": "The service is not available now. Nothing has changed; call again.",
                "details": {"reason": "database_unavailable"},
            }
            assert headers["retry-after"] == "1"
            assert {call(port, "/baskets/guests", method="POST")[1] for _ in range(4)} == {"1"}
            assert call(port, f"/baskets/users/{quote(here, safe='')}")[1] == "1"
            with server(2, gone):
                assert answer_of(port, f"/baskets/users/{quote(there, safe='')}", 200)[1] == "2"
