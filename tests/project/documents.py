"""Reads the documents of the repository: prose, fenced code, tables, anchors."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


DOCS = ROOT / "baskets" / "docs"


ADRS = sorted((DOCS / "adr").glob("[0-9]*.md"))


README, LIFECYCLE, OPERATIONS = ROOT / "README.md", DOCS / "lifecycle.md", DOCS / "operations.md"


SECURITY = ROOT / ".github" / "SECURITY.md"


DOCUMENTS = [README, *sorted(DOCS.rglob("*.md")), SECURITY]


FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


CODE = re.compile(r"`([^`\n]+)`")


DOTTED = re.compile(r"(?:baskets|basket_project)(?:\.[A-Za-z_]\w*)+")


# A path of ours: it begins with a folder of the repository, or is a file at its top.
PATH = re.compile(r"(?:(?:baskets|basket_project|tests|templates|\.requirements|\.ci)/[\w./-]*|manage\.py|pyproject\.toml)")


def ids(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(path: Path) -> str:
    return FENCE.sub("", path.read_text())


def fenced(path: Path, *languages: str) -> Iterator[str]:
    return (content for language, content in FENCE.findall(path.read_text()) if language in languages)


def anchors(path: Path) -> set[str]:
    """Return the anchors of the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def rows(path: Path, first_heading: str) -> list[list[str]]:
    """The rows of the table whose first column has this heading."""
    lines = iter(path.read_text().splitlines())
    for line in lines:
        if line.startswith(f"| {first_heading} |"):
            next(lines)  # The line of dashes.
            break
    found = []
    for line in lines:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    assert found, f"{ids(path)} has no table that begins with {first_heading}"
    return found


def coded(text: str) -> list[str]:
    return CODE.findall(text)
