"""The command `run_benchmark`: measures the service beside its floor, on a durable PostgreSQL server that exists for the run only."""

from collections.abc import Sequence

from basket_project.launcher.cluster import DURABLE, new_password
from basket_project.launcher.environment import PYTHON, ensure_environment
from basket_project.launcher.management import run_attached, service_variables
from basket_project.launcher.platforms import check_embedded_server_runs_here
from basket_project.launcher.run_tests import temporary_cluster


def run_benchmark(arguments: Sequence[str]) -> int:
    """Run the benchmark with these arguments and return its code."""
    check_embedded_server_runs_here()
    ensure_environment(["run", "embedded", "test"])
    if {"-h", "--help"} & set(arguments):
        variables = service_variables(database_url="postgres://127.0.0.1/unused", secret_key=new_password())
        return run_attached([str(PYTHON), "-m", "tests.bench", "--help"], variables)
    # A benchmark needs more memory for the server than a demo: with the demo's, a million baskets are read from the disk.
    with temporary_cluster(DURABLE | {"shared_buffers": "'512MB'", "max_wal_size": "'4GB'"}) as cluster:
        variables = service_variables(database_url=cluster.url, secret_key=f"bench-only-{new_password()}{new_password()}")
        return run_attached([str(PYTHON), "-m", "tests.bench", *arguments], variables)
