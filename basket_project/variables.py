"""The environment variables without which the service does not start. Imports the standard library only: the launcher reads them too."""

import os

REQUIRED_VARIABLES = ("DATABASE_URL", "DJANGO_SECRET_KEY")


def missing_variable() -> str | None:
    """Return a sentence that names a required variable that is not set; None if all are."""
    for name in REQUIRED_VARIABLES:
        if not os.environ.get(name):
            return f"{name} is not set; `serve` takes its settings from the environment."
    return None
