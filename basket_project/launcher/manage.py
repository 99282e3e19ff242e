"""The command `manage`: runs a Django management command against the database of the demo."""

import os
from collections.abc import Sequence
from pathlib import Path

from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.embedded import cluster_of, running_cluster
from basket_project.launcher.environment import PYTHON, ensure_environment
from basket_project.launcher.platforms import check_embedded_server_runs_here
from basket_project.launcher.programs import run_attached, run_quietly, service_variables


def manage(data: Path, arguments: Sequence[str]) -> int:
    """Run a management command, starting the embedded server if it does not run.

    :param data: the data folder of the demo.
    :returns: the exit code of the command.
    """
    folder = DataFolder(data)
    folder.make()
    command = [str(PYTHON), "manage.py", *arguments]
    secret_key = os.environ.get("DJANGO_SECRET_KEY") or folder.secret("django_secret_key")
    named = os.environ.get("DATABASE_URL")
    if named:
        ensure_environment(["run"])
        return run_attached(command, service_variables(database_url=named, secret_key=secret_key))
    check_embedded_server_runs_here()
    ensure_environment(["run", "embedded"])
    is_new = not cluster_of(folder).exists
    with running_cluster(folder) as cluster:
        # The demo with cells stores what makes this database one of them.
        variables = service_variables(database_url=cluster.url, secret_key=secret_key) | folder.read("variables")
        if is_new:
            # Before the first demo there are no tables, and every command needs them.
            run_quietly(["migrate", "--no-input"], variables)
        return run_attached(command, variables)
