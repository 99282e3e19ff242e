#!/usr/bin/env python3
"""Django's command line for an installed environment; `python3 -m basket_project` sets one up."""

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")
    execute_from_command_line(sys.argv)
