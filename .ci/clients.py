"""Makes clients from the document that the demo serves, with two generators, and buys with each.

Usage: `.venv/bin/python .ci/clients.py FOLDER`. Everything is written to the folder, the data of the demo included.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
TOOLS, PROGRAMS = PROJECT / ".openapi", PROJECT / "tests" / "clients"
BINARIES = Path(sys.executable).parent


def run(*command: str | Path, folder: Path, **environment: str) -> None:
    """Run a program of a step, and tell how long it took."""
    started = time.monotonic()
    path = os.pathsep.join([str(BINARIES), str(TOOLS / "node_modules" / ".bin"), os.environ["PATH"]])
    subprocess.run([str(part) for part in command], cwd=folder, check=True, env={**os.environ, "PATH": path, **environment})
    sys.stdout.write(f"-- {Path(command[0]).name}: {time.monotonic() - started:.1f} s\n")
    sys.stdout.flush()


def free_port() -> int:
    """Return a port that no other program uses."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def make_python_client(document: Path, folder: Path) -> None:
    """Make the package `basket_client`."""
    config = TOOLS / "client.yaml"
    options = ("--meta", "none", "--output-path", folder / "basket_client", "--config", config, "--fail-on-warning")
    run("openapi-python-client", "generate", "--path", document, *options, folder=folder)


def make_typescript_client(document: Path, folder: Path) -> None:
    """Make the types `api.d.ts`, and compile the program that uses them."""
    run("openapi-typescript", document, "--output", folder / "api.d.ts", folder=folder)
    (folder / "node_modules").symlink_to(TOOLS / "node_modules")
    for source in (PROGRAMS / "buy.mts", TOOLS / "tsconfig.json"):
        shutil.copy(source, folder)
    run("tsc", "--project", folder / "tsconfig.json", folder=folder)


def main(folder: Path) -> None:
    """Start the demo, make both clients, and buy with them."""
    demo = subprocess.Popen(
        [sys.executable, "-m", "basket_project", "demo", "--json", "--port", str(free_port()), "--data-dir", str(folder / "data")],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        access = json.loads(demo.stdout.readline() if demo.stdout else "")
        document = folder / "openapi.json"
        with urllib.request.urlopen(f"{access['url']}/schema") as response:  # noqa: S310 (the address is the demo's)
            document.write_bytes(response.read())
        service = {"BASKETS_URL": access["url"], "BASKETS_KEY": access["api_key"]}
        make_python_client(document, folder)
        run(sys.executable, PROGRAMS / "buy.py", folder=folder, PYTHONPATH=str(folder), **service)
        make_typescript_client(document, folder)
        run("node", folder / "buy.mjs", folder=folder, **service)
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
