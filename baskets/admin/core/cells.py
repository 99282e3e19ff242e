"""Links from the admin of one cell to that of another: to the cell of a user, and to the cell that publishes a record. See ADR 56."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from django.contrib.admin.views.main import SEARCH_VAR
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.functional import lazy
from django.utils.http import urlencode
from django.utils.translation import gettext

from baskets import conf
from baskets.admin.core import display, error_pages
from baskets.admin.core.search import order_number_in, search_terms
from baskets.db.errors import constraint_of, detail_of
from baskets.domain import slots
from baskets.domain.checkout.order_numbers import NUMBER_LENGTH
from baskets.domain.errors import PUBLISHER_CONSTRAINT

# The proxy knows the cells by these host names; see `domain.cells.proxy`.
CELL_HOST = re.compile(r"^cell[0-9]+\.")


class Elsewhere(NamedTuple):
    """Where a search goes on: a sentence, and the address and the text of each link."""

    sentence: str
    links: Sequence[tuple[str, str]]


def address_in(request: HttpRequest, cell: int, path: str) -> str:
    """Return the address of a page in another cell."""
    here = urlsplit(conf.public_url() or request.build_absolute_uri("/"))
    return f"{here.scheme}://cell{cell}.{CELL_HOST.sub('', here.netloc)}{path}"


def search_elsewhere(request: HttpRequest, typed: str) -> Elsewhere | None:
    """Name the cell that has a user with this id, or say that other cells may have an order with this number.

    :returns: None without cells, and for a user of this cell.
    """
    own, terms = conf.cell(), search_terms(typed)
    if not own or not terms:
        return None
    path = f"{reverse('staff:search')}?{urlencode({SEARCH_VAR: typed})}"
    if len(order_number_in(typed).replace("-", "")) == NUMBER_LENGTH:
        cells, sentence = sorted(slots.cells() - {own}), gettext("An order of another cell is found there only.")
    else:
        found = slots.cells_of(terms[0])
        cells, cell = sorted(found - {own}), " / ".join(map(str, sorted(found)))
        user = display.as_plain_text(terms[0])
        sentence = gettext("A user with the id “%(user)s” belongs to cell %(cell)s.") % {"user": user, "cell": cell}
    links = [(address_in(request, cell, path), gettext("Search in cell %(cell)s") % {"cell": cell}) for cell in cells]
    return Elsewhere(sentence, links) if links else None


def _site_header() -> str:
    cell = conf.cell()
    return gettext("Baskets, cell %(cell)s") % {"cell": cell} if cell else gettext("Baskets")


# The heading of every page, which names the cell.
site_header = lazy(_site_header, str)()


class PublishedElsewhere:
    """Middleware that turns the refusal of a change into a page, where another cell publishes what would change."""

    def __init__(self, get_response: error_pages.GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> Any:
        """Answer one request."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer a request whose change the database has refused for this reason."""
        if not request.path_info.startswith(error_pages.ADMIN_PREFIX) or constraint_of(exception) != PUBLISHER_CONSTRAINT:
            return None
        cell = int(detail_of(exception) or 0)
        way = (address_in(request, cell, request.path), gettext("Open the page in cell %(cell)s") % {"cell": cell})
        return HttpResponse(error_pages.render_published_elsewhere(request, cell=cell, way=way), status=error_pages.PUBLISHED_ELSEWHERE)
