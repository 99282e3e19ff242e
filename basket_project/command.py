"""The command `baskets` of the installed package: `baskets serve` runs the process server, all else is Django's command line."""

import os
import sys

from basket_project.django_command import run_django_command
from basket_project.server import main as serve


def main() -> None:
    """Run one command; the environment holds the settings."""
    if sys.argv[1:2] == ["serve"]:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")
        serve(sys.argv[2:], program="baskets serve")
    else:
        run_django_command()
