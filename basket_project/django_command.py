"""Django's command line, for `manage.py` and the installed command `baskets`."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line


def run_django_command(*, advice: str = "") -> None:
    """Run the command that the arguments of this process name; the environment holds the settings.

    A missing or impossible setting ends the process with 1 and one line, because the message names the variable and a traceback hides it.

    :param advice: a sentence that follows the message.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"ImproperlyConfigured: {error} {advice}".strip())
