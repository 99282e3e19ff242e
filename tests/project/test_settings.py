"""What the settings refuse at the start, each with one sentence."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
GOOD = {"DATABASE_URL": "postgres://127.0.0.1/unused", "DJANGO_SECRET_KEY": "x" * 50}


def start(**variables: str | None) -> str:
    """Load the settings in a new process, without variables that are None; return the last line of the error, or the options of libpq."""
    code = "from basket_project import settings; print(settings.DATABASES['default']['OPTIONS'].get('sslmode'))"
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={name: value for name, value in ({"PATH": os.environ["PATH"]} | GOOD | variables).items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return ended.stdout.strip() if ended.returncode == 0 else ended.stderr.strip().splitlines()[-1].partition("ImproperlyConfigured: ")[2]


def test_a_secret_of_49_characters_stops_the_start_of_production() -> None:
    assert start(DJANGO_SECRET_KEY="x" * 49).startswith("DJANGO_SECRET_KEY has 49 characters and needs 50: ")
    assert start(DJANGO_SECRET_KEY="x" * 50) == "None"
    assert start(DJANGO_SECRET_KEY="short", DJANGO_DEBUG="1") == "None"
    assert start(DJANGO_SECRET_KEY="").startswith("DJANGO_SECRET_KEY is not set: ")


def test_only_development_has_a_default_database() -> None:
    assert start(DATABASE_URL=None) == start(DATABASE_URL="") == "DATABASE_URL is not set: name the PostgreSQL database of the service."
    assert start(DATABASE_URL=None, DJANGO_DEBUG="1") == "None"


@pytest.mark.parametrize(
    "url",
    [
        "postgres:///baskets",
        "postgres://localhost/baskets",
        "postgres://127.1.2.3/baskets",
        "postgres://[::1]/baskets",
    ],
)
def test_a_local_database_needs_no_tls(url: str) -> None:
    assert start(DATABASE_URL=url) == "None"


@pytest.mark.parametrize("host", ["db.example.com", "10.0.0.1", "localhost,db.example.com", "127.0.0.1.example.com"])
def test_a_remote_database_is_reached_with_tls(host: str) -> None:
    assert start(DATABASE_URL=f"postgres://{host}/baskets") == "require"
    assert start(DATABASE_URL=f"postgres://{host}/baskets?sslmode=verify-full") == "verify-full"


@pytest.mark.parametrize("query", ["?host=db.example.com", "?hostaddr=192.0.2.1", "?host=localhost,db.example.com"])
def test_a_remote_host_in_the_query_is_reached_with_tls(query: str) -> None:
    assert start(DATABASE_URL=f"postgres://localhost/baskets{query}") == "require"


@pytest.mark.parametrize("sslmode", ["disable", "allow", "prefer"])
def test_a_remote_database_is_not_reached_without_tls(sslmode: str) -> None:
    refused = start(DATABASE_URL=f"postgres://db.example.com/baskets?sslmode={sslmode}")
    assert refused == (
        f"DATABASE_URL reaches db.example.com with sslmode={sslmode}, which permits a connection without TLS: use verify-full or require."
    )
