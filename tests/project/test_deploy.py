"""The files of `.deploy`: alerts, dashboard and runbook name what exists, and every process that the files start has a command."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import get_commands, load_command_class

from baskets.api.protocol.metrics import REGISTRY
from baskets.api.views.metrics import AVAILABLE, GAUGES, SOLD

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / ".deploy"
RUNBOOK = ROOT / "baskets" / "docs" / "runbook.md"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]


def dashboard_expressions() -> Iterator[str]:
    for panel in json.loads((DEPLOY / "grafana" / "baskets.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def samples() -> set[str]:
    """The names of all samples that `/metrics` can have."""
    return {metric.name + suffix for metric in REGISTRY.collect() for suffix in SUFFIXES[metric.type]} | {
        "baskets_database_up",
        *(name for name, _ in (*GAUGES, SOLD, AVAILABLE)),
    }


def test_alerts_and_dashboard_ask_for_metrics_that_exist() -> None:
    expressions = [rule["expr"] for rule in rules()] + list(dashboard_expressions())
    named = {name for expression in expressions for name in re.findall(r"\bbaskets_\w+", expression)}
    assert named <= samples()
    assert len(named) > 10


def test_every_alert_has_a_section_of_the_runbook_and_no_section_is_left_over() -> None:
    alerts = [rule["alert"] for rule in rules()]
    assert re.findall(r"^### (\w+)$", RUNBOOK.read_text(), re.MULTILINE) == alerts
    assert {rule["labels"]["severity"] for rule in rules()} == {"page", "ticket"}


def started() -> Iterator[tuple[str, list[str]]]:
    """The file and the arguments of every start of `baskets`."""
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")):
        for container in containers(list(yaml.safe_load_all(path.read_text()))):
            if "args" in container and "command" not in container:
                yield path.name, container["args"]
    for name, service in yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"].items():
        if service["image"] == "baskets" and "entrypoint" not in service:
            yield f"compose.yaml {name}", service.get("command", ["serve"])
    for path in sorted((DEPLOY / "systemd").glob("*.timer")):
        yield path.name, [path.stem.partition("@")[2]]


def containers(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield from node.get("containers", [])
        for value in node.values():
            yield from containers(value)
    elif isinstance(node, list):
        for value in node:
            yield from containers(value)


@pytest.mark.parametrize(("where", "arguments"), list(started()))
def test_every_started_command_exists(where: str, arguments: list[str]) -> None:
    name, *rest = arguments
    if name != "serve":
        load_command_class(get_commands()[name], name).create_parser("baskets", name).parse_args(rest)


def test_all_ways_run_the_same_schedule() -> None:
    """The scheduler, the timers and the cron jobs run the same commands."""
    timers = {path.stem.partition("@")[2] for path in (DEPLOY / "systemd").glob("*.timer")}
    jobs = {arguments[0] for where, arguments in started() if where == "cronjobs.yaml"}
    assert timers == jobs == {"expire_baskets", "check_baskets", "purge_history", "clearsessions"}
