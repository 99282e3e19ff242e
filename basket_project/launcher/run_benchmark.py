"""The command `bench`: measures the service on a temporary but durable PostgreSQL server, beside the minimum a finish can cost."""

from collections.abc import Sequence

from basket_project.launcher.cluster import DURABLE, new_password
from basket_project.launcher.environment import PYTHON, ensure_environment
from basket_project.launcher.platforms import check_embedded_server_runs_here
from basket_project.launcher.programs import run_attached, service_variables
from basket_project.launcher.run_tests import temporary_cluster


def run_benchmark(arguments: Sequence[str]) -> int:
    """Run the benchmark with these arguments and return its exit code."""
    check_embedded_server_runs_here()
    ensure_environment(["run", "embedded", "test"])
    if {"-h", "--help"} & set(arguments):
        variables = service_variables(database_url="postgres://127.0.0.1/unused", secret_key=f"help-only-{new_password()}{new_password()}")
        return run_attached([str(PYTHON), "-m", "tests.bench", "--help"], variables)
    # With the demo's memory settings, a million baskets would be read from disk.
    with temporary_cluster(DURABLE | {"shared_buffers": "'512MB'", "max_wal_size": "'4GB'"}) as cluster:
        variables = service_variables(database_url=cluster.url, secret_key=f"bench-only-{new_password()}{new_password()}")
        return run_attached([str(PYTHON), "-m", "tests.bench", *arguments], variables)
