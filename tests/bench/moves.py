"""How many baskets `move_slot` moves in a second, between two databases of one server."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.db import connection
from psycopg import sql

from basket_project.launcher.environment import PROJECT
from baskets.domain import runner, slots
from baskets.domain.actors import Actor
from baskets.domain.cells.slot_division import render_slot_map
from baskets.domain.checkout.sessions import finish_session
from baskets.models.basket_snapshot import Owner
from tests.bench import seeding
from tests.bench.parts import Bench

ITEMS = 2
ACTOR = Actor.system("bench")


def moves(bench: Bench) -> None:
    """Measure a move of baskets with an order of two products each, and prove that both cells are sound then."""
    here = urlsplit(bench.database_url)
    target = here._replace(path=f"{here.path}_cell_2").geturl()
    connection.close()
    with psycopg.connect(here._replace(path="/template1").geturl(), autocommit=True) as server:
        names = map(sql.Identifier, (f"{here.path[1:]}_cell_2", here.path[1:]))
        server.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(*names))
    users = bench.users(bench.baskets)
    seeding.fill(bench.database_url, partner=bench.partner, users=users, items=ITEMS, checkout=True)
    for user in users:
        runner.run(finish_session, owner=Owner(partner_id=bench.partner, user_id=user), ordered=True, order_no=None, actor=ACTOR)
    with tempfile.NamedTemporaryFile("w", suffix=".map") as file:
        file.write(render_slot_map([slots.NO_CELL] * slots.SLOTS))
        file.flush()
        variables = {"BASKETS_CELL": "1", "BASKETS_SLOT_MAP": file.name, "BASKETS_CELL_DATABASES": f"{bench.database_url} {target}"}
        command = ("move_slot", *map(str, range(slots.SLOTS)), "--to", "2")
        seconds, moved = _run(variables, *command)
        without, _ = _run(variables, *command)
    _run({"DATABASE_URL": target}, "check_baskets")
    rate = moved["baskets"] / (seconds - without)
    what = f"{moved['baskets']} baskets with an order of {ITEMS} products"
    sys.stdout.write(f"\nMoves: {what} in {seconds - without:.1f} s, {rate:.0f} a second; {without:.1f} s to begin and end\n")


def _run(variables: Mapping[str, str], *command: str) -> tuple[float, Any]:
    """Run a management command.

    :returns: its seconds and its result.
    """
    begun = time.monotonic()
    arguments = [sys.executable, "manage.py", *command, "--json"]
    done = subprocess.run(arguments, cwd=Path(PROJECT), env=os.environ | variables, stdout=subprocess.PIPE, check=True)
    return time.monotonic() - begun, json.loads(done.stdout)
