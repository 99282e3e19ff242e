"""Renders the configuration of HAProxy in front of cells. It sends each call to the cell of its user.

Calls without a user go to any cell. Lists, feed and webhooks are those of one cell: they are at a host name of the cell, such as
`cell2.baskets.example.com`. At the common host name, and at that of a partner that is served apart, they are refused, because a part of
a list must not look like the whole.
"""

import json
from collections.abc import Mapping, Sequence

from baskets.domain.errors import WrongCell
from baskets.domain.slots import SLOTS

UNAVAILABLE = "The service is not available now. Nothing has changed; call again."
# A server has closed the connection (502) or not answered in time (504), and the call may have reached it.
UNANSWERED = "The cell did not answer: the change may be made or not. Call again: it is safe to repeat."
TEMPLATE = """\
# Made by `manage.py haproxy_config`. Change the slot map, then reload.
global
  # A call may have headers of 32 KiB and an address of 64 KiB.
  tune.bufsize 114688

defaults
  mode http
  option forwardfor
  option httpchk
  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host {check_host}
  default-server check inter 1s fall 2 rise 1
  timeout connect 2s
  timeout client 75s
  timeout http-request 10s
  timeout queue 2s
  timeout server 75s
  # Responses that HAProxy makes itself are in the envelope, too.
  http-error status 502 content-type application/json string '{unanswered}' hdr Retry-After 1
  http-error status 503 content-type application/json string '{unavailable}' hdr Retry-After 1
  http-error status 504 content-type application/json string '{unanswered}' hdr Retry-After 1

frontend baskets
  bind {bind}
  # /baskets/users/USER and /baskets/transfers/IMAGE: the fourth field, decoded where that is possible.
  http-request set-var(txn.key) path,regsub(^/v2/,/),field(4,/) if {{ path_reg ^(/v2)?/baskets/(users|transfers)/[^/] }}
  http-request set-var(txn.key) var(txn.key),url_dec if {{ var(txn.key) -m found }}
  # A guest that takes a transferred basket over.
  http-request set-var(txn.key) url_param(jayToken) if {{ path_reg ^(/v2)?/baskets/guests$ }} {{ url_param(jayToken) -m found }}
  http-request set-var(txn.slot) var(txn.key),sha2(256),bytes(0,1),hex,hex2i,mod({slots}) if {{ var(txn.key) -m found }}
  http-request set-var(txn.place) var(txn.slot) if {{ var(txn.slot) -m found }}
{places}
  http-request set-var(txn.cell) var(txn.place),map({map_file},0) if {{ var(txn.place) -m found }}
  acl at_cell hdr(host),lower -m beg {cell_hosts}
  acl of_one_cell path_reg ^(/v2)?/baskets(/checkout/sessions|/events|/webhooks(/.*)?)?$
  http-request return status 421 content-type application/json string '{wrong_cell}' if of_one_cell !at_cell
{hosts}
  use_backend cell1 if {{ path_beg /admin }}
{cells}
{apart}
  default_backend any

backend any
  balance roundrobin
{all_servers}
"""
BACKEND = """
backend cell{cell}
  balance leastconn
{servers}
"""


ANY_OF_PARTNER = """
backend any_{partner}
  balance roundrobin
{servers}
"""


def render_haproxy_config(
    *,
    cells: Sequence[Sequence[str]],
    bind: str,
    map_file: str,
    with_slots: Sequence[int],
    partner_hosts: Mapping[str, int] | None = None,
    with_slots_of: Mapping[int, Sequence[int]] | None = None,
) -> str:
    """Render the configuration.

    :param cells: the addresses of the servers of each cell, such as `10.0.0.1:8000`, in the order of the cells.
    :param bind: what `bind` takes, such as `:443 ssl crt /etc/haproxy/baskets.pem`.
    :param map_file: the path of the slot map, as the proxy reads it.
    :param with_slots: the cells that have slots; the others get no calls without a user.
    :param partner_hosts: the host names of partners that are served apart, and their primary keys.
    :param with_slots_of: the cells that have slots of these partners.
    """
    servers = {
        cell: "\n".join(f"  server cell{cell}-{number} {address}" for number, address in enumerate(addresses, 1))
        for cell, addresses in enumerate(cells, 1)
    }
    partners, apart = partner_hosts or {}, with_slots_of or {}
    text = TEMPLATE.format(
        places="\n".join(
            f"  http-request set-var(txn.place) str({partner}/),concat(,txn.slot) if {{ var(txn.slot) -m found }} {{ {_is_host(host)} }}"
            for host, partner in partners.items()
        ),
        apart="\n".join(f"  use_backend any_{partner} if {{ {_is_host(host)} }}" for host, partner in partners.items()),
        bind=bind,
        map_file=map_file,
        slots=SLOTS,
        check_host=cells[0][0].rpartition(":")[0],
        unavailable=_envelope(503, "database_unavailable", UNAVAILABLE),
        unanswered=_envelope(503, "outcome_unknown", UNANSWERED),
        wrong_cell=_envelope(404, WrongCell.reason, str(WrongCell.message)),
        cell_hosts=" ".join(f"cell{cell}." for cell in servers),
        hosts="\n".join(f"  use_backend cell{cell} if {{ hdr(host),lower -m beg cell{cell}. }}" for cell in servers),
        cells="\n".join(f"  use_backend cell{cell} if {{ var(txn.cell) -m str {cell} }}" for cell in servers),
        all_servers="\n".join(servers[cell] for cell in servers if cell in with_slots),
    )
    text += "".join(BACKEND.format(cell=cell, servers=lines) for cell, lines in servers.items())
    return text + "".join(
        ANY_OF_PARTNER.format(partner=partner, servers="\n".join(servers[cell] for cell in apart[partner]))
        for partner in sorted(set(partners.values()))
    )


def _is_host(host: str) -> str:
    return f"hdr(host),field(1,:),lower -m str {host}"


def _envelope(code: int, reason: str, message: str) -> str:
    return json.dumps({"error": {"code": code, "message": message, "details": {"reason": reason}}})
