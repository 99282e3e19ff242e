"""Traces leave the process server by OTLP: also those of a worker that SIGHUP has made, and the last ones before its end."""

import gzip
import http.client
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import connection
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from basket_project.launcher.cluster import free_port
from basket_project.launcher.processes import group_members, terminate_group
from baskets.domain.access.api_keys import issue_api_key
from tests.factories import TESTER, PartnerFactory
from tests.project.test_server import PROJECT, answers, eventually

pytestmark = [pytest.mark.xdist_group("server"), pytest.mark.django_db(transaction=True)]


class Collector:
    """Takes what is exported, unless it hangs."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.hang = threading.Event()
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                collector.paths.add(self.path)
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                if collector.hang.is_set():
                    time.sleep(30)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]

    def names(self) -> list[str]:
        found = [each for request in self.requests for resource in request.resource_spans for each in resource.scope_spans]
        return sorted(span.name for scope in found for span in scope.spans)

    def services(self) -> set[str]:
        resources = [resource.resource for request in self.requests for resource in request.resource_spans]
        return {attribute.value.string_value for each in resources for attribute in each.attributes if attribute.key == "service.name"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    started = Collector()
    thread = threading.Thread(target=started.server.serve_forever)
    thread.start()
    yield started
    started.server.shutdown()
    started.server.server_close()
    thread.join()


@pytest.fixture
def server(collector: Collector) -> Iterator[tuple[int, int]]:
    """A process server with one worker, which exports at its end only: its port, and its main process."""
    settings, port = connection.settings_dict, free_port()
    variables = os.environ | {
        "DATABASE_URL": f"postgres://{settings['USER']}:{settings['PASSWORD']}@{settings['HOST']}:{settings['PORT']}/{settings['NAME']}",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_BSP_SCHEDULE_DELAY": "600000",
    }
    command = [sys.executable, "-m", "basket_project.server", "--port", str(port), "--workers", "1", "--threads", "1"]
    with subprocess.Popen(
        command, cwd=PROJECT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
    ) as process:
        assert eventually(lambda: answers(port))
        yield port, process.pid
        terminate_group(process.pid, grace_seconds=15)


def call(port: int, key: str) -> None:
    caller = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    caller.request("GET", "/baskets/users/ada", headers={"X-API-Key": key})
    assert caller.getresponse().status == 200
    caller.close()


def test_the_spans_of_both_generations_of_workers_arrive_and_a_collector_that_hangs_holds_up_no_end(
    collector: Collector, server: tuple[int, int]
) -> None:
    port, main = server
    PartnerFactory(name="Traced TV")
    _, key = issue_api_key(partner_name="Traced TV", actor=TESTER)
    before = set(group_members(main)) - {main}
    call(port, key)
    os.kill(main, signal.SIGHUP)
    assert eventually(lambda: not before & set(group_members(main)))
    assert eventually(lambda: len(collector.requests) == 1)
    collector.hang.set()
    call(port, key)
    began = time.monotonic()
    os.kill(main, signal.SIGTERM)
    assert eventually(lambda: not group_members(main))
    assert time.monotonic() - began < 8
    assert collector.paths == {"/v1/traces"}
    assert collector.services() == {"baskets"}
    assert collector.names().count("GET baskets/users/<user_id>") == 2
