"""Django's command line, for `manage.py` and the installed command `baskets`."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import InterfaceError, OperationalError, connection

from baskets.error_summary import sqlstate_of


def run_django_command(*, advice: str = "") -> None:
    """Run the command that the arguments of this process name; the environment holds the settings.

    A missing or impossible setting ends the process with 1 and one line, because the message names the variable and a traceback hides it.
    So does a database that is not reached, or is lost, unless the option `--traceback` is given.

    :param advice: a sentence that follows the message.
    """
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "basket_project.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"ImproperlyConfigured: {error} {advice}".strip())
    except (OperationalError, InterfaceError) as error:
        if sqlstate_of(error) is not None or "--traceback" in sys.argv:
            raise  # The database has answered.
        reason = str(error).strip().partition("\n")[0]
        sys.exit(f"The database cannot be reached ({_database_address()}): {reason}")


def _database_address() -> str:
    """Return host and port from the settings: the message of a time-out has none."""
    parameters = connection.get_connection_params()
    return f"host {parameters.get('host', 'not set')}, port {parameters.get('port', 'not set')}"
