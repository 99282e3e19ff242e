"""Finds the piece of source that a mutation replaces: by the name of the object that holds it and by its words, not by its layout."""

import ast
import re
from functools import cache
from pathlib import Path

PROJECT = Path(__file__).parents[2]


class PlaceNotFound(LookupError):
    """A mutation names an object that does not exist, or text that its object does not hold exactly once."""


@cache
def resolve(place: str) -> tuple[Path, tuple[str, ...]]:
    """Split a dotted name into a file of the project and the names inside it.

    :returns: the path relative to the project, and the nested names: `baskets.net.http_client.Client.get` gives
        `baskets/net/http_client.py` and `("Client", "get")`.
    :raises PlaceNotFound: if no part of the name is a module.
    """
    parts = place.split(".")
    for length in range(len(parts), 0, -1):
        file = Path(*parts[:length]).with_suffix(".py")
        if (PROJECT / file).is_file():
            return file, tuple(parts[length:])
    message = f"no module in {place}"
    raise PlaceNotFound(message)


def mutate(source: str, *, names: tuple[str, ...], old: str, new: str) -> str:
    """Replace `old` with `new` inside one object of a module.

    :param names: the object, from the outside to the inside; empty for the whole module.
    :param old: the words to replace. Where it has white space, the source may have any white space.
    :raises PlaceNotFound: if the object is absent, or holds `old` not exactly once.
    """
    start, end = _span(source, names)
    words = re.compile(r"\s+".join(map(re.escape, old.split())))
    found = list(words.finditer(source, start, end))
    if len(found) != 1:
        message = f"{'.'.join(names) or 'the module'} holds {old!r} {len(found)} times"
        raise PlaceNotFound(message)
    return source[: found[0].start()] + new + source[found[0].end() :]


def _span(source: str, names: tuple[str, ...]) -> tuple[int, int]:
    """Find the first and the last offset of an object, its decorators included."""
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    node: ast.AST = ast.parse(source)
    start, end = 0, len(source)
    for name in names:
        for child in getattr(node, "body", ()):
            if name in _names_of(child):
                node = child
                break
        else:
            message = f"no {name} in {'.'.join(names)}"
            raise PlaceNotFound(message)
        decorators = getattr(node, "decorator_list", ())
        start, end = starts[min(n.lineno for n in (node, *decorators)) - 1], starts[node.end_lineno]
    return start, end


def _names_of(node: ast.AST) -> set[str]:
    """List the names that a statement of a module or of a class defines."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
