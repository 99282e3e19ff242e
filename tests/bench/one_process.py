"""Answers calls inside one process, without a network. It is measured from outside: `instructions` counts what it executes.

`python -m tests.bench.one_process` reads lines from its standard input and writes one line for each, when its calls are answered.
A line is JSON: the key, and each call as method, path and body.
"""

import io
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import django

from basket_project.handler import Handler

Application = Callable[..., Any]


def answer(application: Application, *, key: str, method: str, path: str, body: str) -> None:
    """Answer one call, which must succeed.

    :raises SystemExit: it was refused.
    """
    raw = body.encode()
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "127.0.0.1",
        "HTTP_X_API_KEY": key,
        "CONTENT_TYPE": "application/json",
        "CONTENT_LENGTH": str(len(raw)),
        "wsgi.input": io.BytesIO(raw),
        "wsgi.errors": sys.stderr,
        "wsgi.url_scheme": "http",
    }
    statuses: list[str] = []
    response = application(environ, lambda status, *_: statuses.append(status))
    response.close()
    if not statuses[0].startswith("200"):
        raise SystemExit(f"{method} {path}: {statuses[0]}")


def main() -> None:
    """Answer the calls on standard input, until it ends."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")
    django.setup(set_prefix=False)
    # Not the application of `basket_project.wsgi`: what that prepares would take minutes under a tool that counts instructions.
    application = Handler()
    for line in sys.stdin:
        given = json.loads(line)
        for method, path, body in given["calls"]:
            answer(application, key=given["key"], method=method, path=path, body=body)
        sys.stdout.write("answered\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
