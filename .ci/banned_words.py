#!/usr/bin/env python3
"""Finds words that make text hard to read, in names, comments and strings of Python files and in all text of templates and documents.

Prints one line for each finding and for each exception that is no longer needed; exits with 1 if there are any. Arguments restrict
the check to paths that begin with them, for example `.ci/banned_words.py baskets/api tests/api`. The exceptions are in
`banned_words_allowed.txt` beside this file, one a line: a path (globs are allowed), a rule, and the reason, separated by tabs.
"""

import fnmatch
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = Path(__file__).with_name("banned_words_allowed.txt")
SKIPPED = ("baskets/migrations/*", ".ci/banned_words*")

# The name of each rule, what it finds, and what to write in its place.
RULES = {
    "whoever": (r"who(so)?ever", "name the subject: the caller, the worker, the reader"),
    "nobody": (r"nobody|no-one", "name the subject, and say what happens"),
    "somebody": (r"somebody", "name the subject: another process, staff, a customer"),
    "anybody": (r"anybody", "name the subject: any caller, any user"),
    "told": (r"told", "reported, recorded, documented, shown"),
    "said": (r"said", "stated, configured, sent, given"),
    "asked": (r"asked", "requested, queried, called"),
    "heard": (r"heard", "received"),
    "meanwhile": (r"meanwhile", "in the meantime: say when"),
    "anew": (r"anew", "again"),
    "of its own": (r"of\s+(?:its|their)\s+own", "its own X, a separate X"),
    "business": (r"none\s+of\s+(?:its|our|their)\s+business", "does not know of, does not read"),
    "as it is": (r"as\s+(?:it\s+is|they\s+are)(?=[.,;:)\n]|$)", "unchanged"),
    "is no X": (r"(?<!there\s)(?<!there\swas\s)\b(?:is|are)\s+no\s+(?!longer|more\b|less\b|one\b|other\b|such\b)\w+", "is not a X"),
    "the clock's word": (r"by\s+the\s+(?:database's\s+)?clock's\s+word", "according to the database clock"),
    "in the hands": (r"in\s+the\s+hands|at\s+hand\b|take[ns]?\s+in\s+hand", "assigned to"),
    "presume": (r"presum(?:e|ed|es|ing|ption)", "cached, expected"),
    "uttered": (r"uttered|spoken\s+of", "received, given"),
    "frm": (r"frm", "from_states, sender: spell it out"),
}
PATTERNS = {name: re.compile(rf"(?<![a-z])(?:{pattern})(?![a-z])", re.IGNORECASE) for name, (pattern, _) in RULES.items()}
ANY = re.compile("|".join(pattern.pattern for pattern in PATTERNS.values()), re.IGNORECASE)
CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def files(prefixes: tuple[str, ...]) -> Iterator[str]:
    """Yield the paths of the texts in the repository that begin with one of the prefixes."""
    listing = subprocess.run(
        ["/usr/bin/env", "git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.html", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for path in sorted(set(listing.stdout.splitlines())):
        if path.startswith(prefixes) and (ROOT / path).is_file() and not any(fnmatch.fnmatch(path, skipped) for skipped in SKIPPED):
            yield path


def pieces(path: str) -> Iterator[tuple[int, str]]:
    """Yield the texts of a file with the line each begins at: a whole document; names, comments and strings of a Python file."""
    text = (ROOT / path).read_text()
    if not path.endswith(".py"):
        yield 1, text
        return
    comment: list[str] = []
    first = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "COMMENT":
            # Comment lines below each other are one text, so that a phrase is found across a line break.
            first = first if comment else token.start[0]
            comment.append(token.string.lstrip("#"))
            continue
        if kind in ("NL", "NEWLINE") and comment and token.line.lstrip().startswith("#"):
            continue
        if comment:
            yield first, "\n".join(comment)
            comment = []
        if kind in ("STRING", "FSTRING_MIDDLE"):
            yield token.start[0], token.string
        elif kind == "NAME":
            yield token.start[0], CAMEL.sub("_", token.string)


def findings(prefixes: tuple[str, ...]) -> Iterator[tuple[str, int, str, str]]:
    """Yield path, line, rule and the words found."""
    for path in files(prefixes):
        for first, text in pieces(path):
            if not ANY.search(text):
                continue
            for name, pattern in PATTERNS.items():
                for found in pattern.finditer(text):
                    line = first + text.count("\n", 0, found.start())
                    yield path, line, name, " ".join(found[0].split())


def exceptions() -> list[tuple[str, str]]:
    """Return path and rule of each exception.

    :raises SystemExit: a line has no reason, or names a rule that does not exist.
    """
    allowed = []
    for line in ALLOWED.read_text().splitlines():
        if line and not line.startswith("#"):
            path, rule, reason = [*line.split("\t"), "", ""][:3]
            if rule not in RULES or not reason.strip():
                sys.exit(f"{ALLOWED.name}: this line needs a path, a rule and a reason, separated by tabs: {line}")
            allowed.append((path, rule))
    return allowed


def main(arguments: list[str]) -> int:
    """Check the repository, or the paths that begin with the arguments, and return the exit code."""
    allowed = exceptions()
    used = set()
    failed = 0
    for path, line, rule, words in findings(tuple(arguments) or ("",)):
        matching = [entry for entry in allowed if entry[1] == rule and fnmatch.fnmatch(path, entry[0])]
        used.update(matching)
        if not matching:
            failed += 1
            sys.stdout.write(f"{path}:{line}: “{words}”: {RULES[rule][1]}\n")
    for path, rule in sorted(set(allowed) - used) if not arguments else []:
        failed += 1
        sys.stdout.write(f"{ALLOWED.name}: no {rule!r} is left in {path}; remove the exception\n")
    if failed:
        sys.stdout.write(f"\n{failed} to mend.\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
