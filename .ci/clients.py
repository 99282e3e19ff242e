"""Makes clients from the document that the demo serves, with two generators, and buys with each. Runs the TypeScript of the guides.

Usage: `.venv/bin/python .ci/clients.py FOLDER`. Everything is written to the folder, the data of the demo included.
"""

import json
import os
import re
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
EXAMPLE_URL = "http://127.0.0.1:8000"
START = PROJECT / "baskets" / "docs" / "partners" / "start.md"
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


def run_typescript_of_the_guide(folder: Path, *, url: str, key: str) -> None:
    """Compile and run the examples of the start page, one after another, as one program that buys with the test key."""
    examples = re.findall(r"^```typescript\n(.*?)^```$", START.read_text(), re.MULTILINE | re.DOTALL)
    program = "\n".join(["declare const process: { env: Record<string, string | undefined> };", *examples, "export {};"])
    if EXAMPLE_URL not in program or "finish-active" not in program:
        raise SystemExit(f"{START.name} has no TypeScript that calls {EXAMPLE_URL}.")
    (folder / "start.mts").write_text(program.replace(EXAMPLE_URL, url))
    options = json.loads((TOOLS / "tsconfig.json").read_text()) | {"files": ["start.mts"]}
    (folder / "tsconfig.start.json").write_text(json.dumps(options))
    run("tsc", "--project", folder / "tsconfig.start.json", folder=folder)
    run("node", folder / "start.mjs", folder=folder, KEY=key)


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
        run_typescript_of_the_guide(folder, url=access["url"], key=access["test_api_key"])
    finally:
        demo.send_signal(signal.SIGTERM)
        demo.wait(60)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
