"""The guides for partners: the Markdown in `baskets/docs/partners`, rendered as pages without any outside address."""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.shortcuts import render
from markdown_it import MarkdownIt
from markdown_it.token import Token
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name

from baskets import conf
from baskets.api.views.health import get_only

FOLDER = Path(__file__).parents[2] / "docs" / "partners"
# In the order in which a partner needs them. `start` is the page at `/docs`.
GUIDES = (
    *("start", "checkout-page", "testing", "checkouts", "late-payments", "retries", "keys", "guests", "transfer", "comfort", "conventions"),
    *("webhooks", "feed", "events", "lists", "errors", "limits", "going-live", "changelog"),
)
# The address that the examples call. A page shows its own address in this place.
EXAMPLE_URL = "http://127.0.0.1:8000"
LANGUAGES = {"sh": "curl", "python": "Python", "typescript": "TypeScript", "kotlin": "Kotlin", "swift": "Swift"}


@dataclass(frozen=True, kw_only=True)
class Guide:
    """One page. `path` is its address; `content` is HTML."""

    path: str
    title: str
    content: str


@get_only
def guide(request: HttpRequest, name: str = "start") -> HttpResponse:
    """Serve a guide, or the page of one error reason, such as `errors/out_of_stock`. With a slash behind it, lead to the page.

    :raises Http404: there is no such page.
    """
    page = _pages().get(name.removesuffix("/"))
    if page is None:
        raise Http404
    if name.endswith("/"):
        return HttpResponsePermanentRedirect(page.path)
    url = conf.public_url() or request.build_absolute_uri("/").rstrip("/")
    content = page.content.replace(EXAMPLE_URL, escape(url))
    return render(request, "api/guide.html", {"page": page, "guides": [_pages()[slug] for slug in GUIDES], "content": content})


@functools.cache
def _pages() -> dict[str, Guide]:
    """Return every page by its name. The text is a part of the release, so a process renders it once."""
    sources = {slug: (FOLDER / f"{slug}.md").read_text() for slug in GUIDES}
    _, *reasons = re.split(r"^## ", sources["errors"], flags=re.MULTILINE)
    sources |= {f"errors/{text.split('`')[1]}": f"# {text}" for text in reasons}
    return {name: _render(name, text) for name, text in sources.items()}


def _render(name: str, text: str) -> Guide:
    tokens = _markdown().parse(text)
    title = next(token.content for token in tokens if token.type == "inline")
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", anchor(inline.content))
    for link in (child for token in tokens for child in token.children or () if child.type == "link_open"):
        link.attrSet("href", re.sub(r"^([\w-]+)\.md", _path_of, str(link.attrGet("href"))))
    content = "".join(
        _tabs(list(run)) if is_code else _markdown().renderer.render(list(run), _markdown().options, {})
        for is_code, run in itertools.groupby(tokens, key=lambda token: token.type == "fence")
    )
    return Guide(path=_path_of(name), title=title.replace("`", ""), content=content)


def _path_of(name: str | re.Match[str]) -> str:
    slug = name if isinstance(name, str) else name[1]
    return "/docs" if slug == "start" else f"/docs/{slug}"


def anchor(heading: str) -> str:
    """Return the anchor of a heading, in the form that viewers of Markdown use."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _tabs(examples: Sequence[Token]) -> str:
    """Render adjacent examples as alternatives of which one is open. An example that stands alone is plain."""
    shown = [str(_markdown().renderer.render([example], _markdown().options, {})) for example in examples]
    if len(shown) == 1:
        return shown[0]
    # Examples of one place in the text share a name: opening one closes the others.
    group = escape(f"example-{(examples[0].map or [0])[0]}")
    return "".join(
        f'<details name="{group}"{" open" if not position else ""}><summary>{LANGUAGES[example.info]}</summary>{html}</details>'
        for position, (example, html) in enumerate(zip(examples, shown, strict=True))
    )


@functools.cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False, "highlight": _highlight}).enable("table")


def _highlight(code: str, language: str, _attributes: Any) -> str:
    return str(highlight(code, get_lexer_by_name(language or "text"), HtmlFormatter(nowrap=True)))
