"""The first page: open work with its age, figures that add up, plots without script, and what each role sees of it."""

import html
import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from django.contrib.auth.models import Permission, User
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from psycopg.errors import ReadOnlySqlTransaction

from baskets.admin.core import charts, display
from baskets.admin.home import views
from baskets.domain import runner
from baskets.domain.actors import Actor, ActorKind
from baskets.domain.events import activity, refused_calls, webhook_endpoints
from baskets.domain.maintenance import invariant_checker
from baskets.domain.stock import supply
from baskets.domain.support import attention_repairs
from baskets.models import ActivityState, Attention, Basket, Partner, WebhookEndpoint
from tests.admin.conftest import Shop
from tests.admin.repairs.repair_states import broken
from tests.factories import TESTER, PartnerFactory
from tests.time_travel import age_all_rows, await_full_period

pytestmark = pytest.mark.django_db
HOME = "/admin/"


def body_of(client: Client, query: str = "") -> str:
    response = client.get(HOME + query)
    assert response.status_code == 200
    return html.unescape(re.sub(r"\s+", " ", response.content.decode()))


def work_in(body: str) -> dict[str, list[str]]:
    """By label: what is open, mine and unassigned."""
    rows = re.findall(r'<tr><th scope="row"><a href="[^"]+">([^<]+)</a></th>(.*?)</tr>', body)
    return {label: re.findall(r'<td class="num">(?:<b>)?([^<]+)', cells) for label, cells in rows}


def totals_in(body: str) -> dict[str, str]:
    return {label: number for number, label in re.findall(r"<li><b>([^<]+)</b> ([a-z ]+)<br>", body)}


def let_time_pass(client: Client, **delta: float) -> None:
    """Age everything, sessions of staff included, and sign in again."""
    age_all_rows(timedelta(**delta))
    client.force_login(User.objects.get(username="vera"))


@pytest.fixture
def flagged(full_shop: Shop) -> Shop:
    """The shop, in which a second customer may have paid, and has waited for two days."""
    buyer = full_shop.buyer("dan")
    buyer.place("song")
    buyer.start()
    buyer.pay_after_abort()
    flags = Attention.objects.filter(basket_id=buyer.owner.basket_id)
    flags.update(created_at=flags.get().created_at - timedelta(days=2))
    return full_shop


def take(client: Client, shop: Shop, user_id: str, account: str) -> None:
    flag = Attention.objects.get(basket_id=shop.buyer(user_id).owner.basket_id)
    actor = Actor(kind=ActorKind.STAFF, name=account)
    events = Basket.objects.get(pk=flag.basket_id).events
    runner.run(attention_repairs.assign, session=flag.session, expected_events=events, reason="mine", actor=actor)


def test_open_work_is_counted_with_its_age_and_its_assignees(flagged: Shop, viewer: Client) -> None:
    body = body_of(viewer)
    assert work_in(body) == {"The customer may have paid": ["2", "0", "2"]}
    assert re.search(r'datetime="[^"]+" title="[^"]+">2 days ago</time>', body)
    take(viewer, flagged, "ben", "vera")
    take(viewer, flagged, "dan", "other")
    assert work_in(body_of(viewer)) == {"The customer may have paid": ["2", "1", "0"]}


def test_every_kind_of_work_is_on_it_and_leads_to_its_list(flagged: Shop, viewer: Client) -> None:
    broken(flagged)
    flagged.buyer("cid").wait(hours=1)
    flagged.product("gone", 2)
    buyer = flagged.buyer("eve")
    buyer.place("gone", 2)
    buyer.start()
    supply.set_unsold(reports={"gone": 1}, as_of=None, reason="counted", actor=TESTER)
    webhook_endpoints.create_webhook(partner_name=flagged.partner.name, url="https://example.com/", actor=TESTER)
    WebhookEndpoint.objects.update(failures=3, failing_since=Attention.objects.earliest("created_at").created_at)
    body = body_of(viewer)
    assert {label: cells[0] for label, cells in work_in(body).items()} == {
        "The customer may have paid": "2",
        "Lapsed checkouts, not yet swept": "1",
        "Products with a shortfall": "1",
        "Webhooks that fail or were given up": "1",
        "Broken rules": "1",
    }
    for address in re.findall(r'<tr><th scope="row"><a href="([^"]+)">', body):
        assert viewer.get(address).status_code == 200
    assert '<span class="badge badge-bad">late</span>' in body
    assert '<span class="badge badge-bad">1 broken</span>' in body


def test_lapsed_checkouts_of_sandboxes_are_not_counted(shop: Shop, viewer: Client) -> None:
    shop.product("lamp", 9)
    buyer = shop.buyer("tom")
    buyer.place("lamp", 1)
    buyer.start()
    buyer.wait(hours=1)
    assert "Lapsed checkouts, not yet swept" in work_in(body_of(viewer))
    live = PartnerFactory(name="live")
    Partner.objects.filter(pk=shop.partner.pk).update(sandbox_of=live)
    assert work_in(body_of(viewer)) == {}


def test_the_number_of_lapsed_checkouts_leads_to_as_many(shop: Shop, viewer: Client) -> None:
    sandbox = Shop(PartnerFactory(sandbox_of=shop.partner))
    for seller, product_id, user_id in ((shop, "lamp", "live-tom"), (sandbox, "sandbox-lamp", "test-tom")):
        buyer = seller.buyer(user_id)
        buyer.place(shop.product(product_id))
        buyer.start()
    let_time_pass(viewer, hours=1)
    body = body_of(viewer)
    assert work_in(body)["Lapsed checkouts, not yet swept"][0] == "1"
    (address,) = re.findall(r'<a href="([^"]+)">Lapsed checkouts, not yet swept', body)
    assert re.findall("(?:live|test)-tom", viewer.get(address).content.decode()) == ["live-tom"]
    listed = viewer.get(address.replace("sandbox=no", "sandbox=yes")).content.decode()
    assert re.findall("(?:live|test)-tom", listed) == ["test-tom"]


def test_without_work_it_states_so(shop: Shop, viewer: Client) -> None:
    body = body_of(viewer)
    assert "Nothing that you may see waits." in body
    assert body.count('<span class="badge badge-good">up to date</span>') == 2
    assert totals_in(body)["orders"] == "0"
    assert "Nothing was sold in the last hour." in body


def test_figures_are_those_of_the_window(full_shop: Shop, viewer: Client) -> None:
    full_shop.product("poster")
    late = full_shop.buyer("eve")
    late.place("poster", 3)
    order_no = late.start().session.order_no
    late.finish(False)
    late.finish(True, order_no)
    test = full_shop.buyer("tom")
    test.place("poster", 9)
    test.start(test_mode=True)
    test.finish(True)
    body = body_of(viewer)
    expected = {"orders": "2", "pieces sold": "6", "checkouts started": "4", "not ordered": "2", "active now": "1", "refused orders": "1"}
    assert totals_in(body) == expected
    assert "1 of them late" in body
    assert "2 aborted, 0 expired" in body
    products = body.partition("What sold most")[2].partition("</table>")[0]
    cells = [re.sub(r"<[^>]+>", " ", cell).split() for cell in re.findall(r"<td[^>]*>(.*?)</td>", products)]
    assert cells[:6] == [["poster", "Name", "of", "poster"], ["3"], ["1"], ["unlimited"], ["0"], [display.NOTHING]]
    assert cells[6:12] == [["lamp", "Name", "of", "lamp"], ["2"], ["1"], ["5"], ["2"], ["22", "%"]]
    for window in ("day", "week", "nonsense", "%00"):
        assert totals_in(body_of(viewer, f"?window={window}")) == expected
    let_time_pass(viewer, hours=3)
    nothing = dict.fromkeys(expected, "0") | {"active now": "1"}
    assert totals_in(body_of(viewer)) == nothing
    assert totals_in(body_of(viewer, "?window=day")) == expected
    let_time_pass(viewer, days=2)
    assert totals_in(body_of(viewer, "?window=day")) == nothing
    assert totals_in(body_of(viewer, "?window=week")) == expected
    assert invariant_checker.check_invariants() == []


def test_each_plot_has_its_words_and_its_table_and_no_script(full_shop: Shop, viewer: Client) -> None:
    refused_calls._counts.clear()
    for reason, number in (("out_of_stock", 3), ("throttled", 2), ("<b>", 2), ("not_found", 1)):
        for _ in range(number):
            refused_calls.count(reason)
    refused_calls.write_counts()
    body = viewer.get(HOME).content.decode()
    plots = [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", body)]  # noqa: S314 (our own page)
    assert len(plots) == body.count("<figure>") == body.count("<summary>As a table</summary>") == 8
    assert [plot.get("role") for plot in plots] == ["img"] * 8
    assert "Pieces sold per minute: 3 in all; the most, 3, at" in str(plots[0].get("aria-label"))
    for plot in plots:
        assert {node.tag for node in plot.iter()} <= {"svg", "g", "rect", "line", "path", "text"}
        names = {name for node in plot.iter() for name in node.keys()}  # noqa: SIM118 (an element is not a dictionary)
        assert not {name for name in names if name.startswith("on") or name in ("style", "href", "xlink:href")}
    tables = [re.findall(r"<tr><td>", table) for table in re.findall(r"<details>.*?</details>", body, re.DOTALL)]
    assert [len(rows) for rows in tables] == [60] * 8
    assert "Refused calls per minute: 8 in all" in str(plots[4].get("aria-label"))
    assert "Out of stock per minute: 3 in all" in str(plots[5].get("aria-label"))
    refused = body.partition("Refused calls in the last hour")[2].partition("</table>")[0]
    assert re.findall(r'class="quiet">([^ ]+)</span></td><td class="num">(\d+)</td><td class="num">(\d+)', refused) == [
        ("out_of_stock", "3", "38"),
        ("&lt;b&gt;", "2", "25"),
        ("throttled", "2", "25"),
        ("not_found", "1", "12"),
    ]
    assert "http" not in "".join(re.findall(r"<svg.*?</svg>", body))


def test_active_checkouts_are_those_of_each_moment(full_shop: Shop, viewer: Client) -> None:
    body_of(viewer)
    let_time_pass(viewer, hours=2)
    await_full_period(seconds=3600, left=10)
    full_shop.buyer("cid").finish(True)
    dan = full_shop.buyer("dan")
    dan.place("song")
    dan.start()
    fay = full_shop.buyer("fay")
    fay.place("song")
    fay.start()
    body = body_of(viewer, "?window=day")
    table = body.partition("<b>Active checkouts</b>")[2].partition("</figure>")[0]
    numbers = [int(number) for number in re.findall(r'<td>\d\d:\d\d</td><td class="num">(\d+)</td>', table)]
    assert numbers[:4] == [2, 1, 1, 0] or numbers[:4] == [2, 1, 0, 0]
    assert len(numbers) == 24


def test_times_of_the_plots_are_in_the_zone_of_the_browser(full_shop: Shop, viewer: Client) -> None:
    viewer.cookies["desk_zone"] = "Asia/Kolkata"
    at = Attention.objects.get().created_at + timedelta(minutes=330)
    assert re.search(f'<td>{at:%H:%M}</td><td class="num">1</td>', body_of(viewer))


PARTS = {
    "view_attention": ("The customer may have paid", "Open flags by reason", "Open the work list"),
    "view_checkoutsession": ("Sweep", "Pieces sold per minute", "<h2>Refused calls in"),
    "view_event": ("Feed",),
    "view_webhookendpoint": ("Webhooks",),
    "view_brokenrule": ("Check of the rules",),
    "view_product": ("What sold most",),
    "view_partner": ("<h2>Partners</h2>",),
}
WITH_FIGURES = {"view_product", "view_partner"}


@pytest.mark.parametrize("permission", PARTS)
def test_each_part_needs_its_permission(permission: str, full_shop: Shop, sign_in: Callable[..., Client]) -> None:
    client = sign_in("eva")
    names = {permission, *(("view_checkoutsession",) if permission in WITH_FIGURES else ())}
    User.objects.get(username="eva").user_permissions.set(Permission.objects.filter(codename__in=names))
    body = body_of(client)
    shown = {part for name, parts in PARTS.items() if name in names for part in parts} - {"Open flags by reason"}
    everything = {part for parts in PARTS.values() for part in parts} - {"Open flags by reason"}
    assert {part for part in everything if part in body} == shown


def test_staff_without_rights_see_an_empty_page_and_strangers_none(
    full_shop: Shop, staff_without_rights: Client, anonymous: Client, stored_rows: Callable[[], Any]
) -> None:
    before = stored_rows()
    body = body_of(staff_without_rights)
    assert not any(part in body for parts in PARTS.values() for part in parts)
    assert anonymous.get(HOME).status_code == 302
    assert staff_without_rights.post(HOME).status_code == 403
    assert stored_rows() == before


def test_all_records_are_on_their_page(full_shop: Shop, viewer: Client, staff_without_rights: Client) -> None:
    records = reverse("staff:records")
    assert f'href="{records}"' in body_of(viewer)
    listed = viewer.get(records).content.decode()
    for model in ("basket", "event", "stockadjustment"):
        assert reverse(f"admin:baskets_{model}_changelist") in listed
    assert reverse("admin:baskets_basket_changelist") not in staff_without_rights.get(records).content.decode()


def test_the_page_takes_few_statements_however_much_there_is(full_shop: Shop, viewer: Client) -> None:
    body_of(viewer)
    counts = []
    for number in range(2):
        for place in range(1 + 8 * number):
            product = full_shop.product(f"p-{number}-{place}", 5)
            buyer = full_shop.buyer(f"user-{number}-{place}")
            buyer.place(product)
            buyer.start()
            buyer.pay_after_abort()
            buyer.start()
            buyer.finish(True)
        activity.count_events()
        with CaptureQueriesContext(connection) as queries:
            body_of(viewer, "?window=week")
        counts.append(len([query for query in queries if "feedstate" not in query["sql"] and "fresh AS" not in query["sql"]]))
    assert counts[0] == counts[1] <= 24


def test_a_backlog_is_counted_bit_by_bit_and_the_page_says_how_far(
    full_shop: Shop, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "MAX_COUNTED", 3)
    assert "Events are counted until" in body_of(viewer)
    assert ActivityState.objects.get().position == 3
    activity.count_events()
    assert "Events are counted until" not in body_of(viewer)


def test_a_database_that_takes_no_writes_shows_the_figures_there_are(
    full_shop: Shop, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    activity.count_events()

    def read_only(**_: Any) -> None:
        message = "cannot execute INSERT in a read-only transaction"
        raise OperationalError(message) from ReadOnlySqlTransaction(message)

    monkeypatch.setattr(views.activity, "count_events", read_only)
    assert totals_in(body_of(viewer))["orders"] == "1"


@pytest.mark.parametrize("values", [[0], [0, 0, 0], [1], [3, 0, 7], list(range(168))])
def test_plots_of_any_numbers_can_be_drawn(values: list[int]) -> None:
    labels = [f"<{value}>" for value in values]
    for draw in (charts.columns, charts.line):
        svg = ET.fromstring(draw(values, labels, alternative='"&<'))  # noqa: S314 (our own)
        assert svg.get("aria-label") == '"&<'
        assert all("NaN" not in str(node.attrib) for node in svg.iter())
