"""The command `baskets` of the installed package: `baskets serve` runs the process server, all else is Django's command line."""

import os
import sys

from django.core.management import execute_from_command_line

from basket_project.server import main as serve


def main() -> None:
    """Run one command; the environment holds the settings."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")
    if sys.argv[1:2] == ["serve"]:
        serve(sys.argv[2:], program="baskets serve")
    else:
        execute_from_command_line(sys.argv)
