"""Builds the wheel, installs it, and serves from it: `.venv/bin/python .ci/wheel.py FOLDER`.

The installed package must carry templates, guides, static files and the command `baskets`. It borrows the dependencies of `.venv`.
No database runs: the requested pages need none.
"""

import http.client
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
# What each page shows only if the files of its kind came along.
PAGES = {"/livez": b'"status"', "/docs": b"finish-active", "/admin/login/": b"<h1>Log in", "/static/baskets/admin.css": b"{"}
START_SECONDS = 300


def main(folder: Path) -> None:
    """Build, install, serve, ask; an exit code of 1 names what is missing."""
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(PROJECT))
    (wheel,) = folder.glob("*.whl")
    environment = folder / "installed"
    run(sys.executable, "-m", "venv", "--without-pip", str(environment))
    python = environment / "bin" / "python"
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
    borrowed = subprocess.check_output([sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(site) / "borrowed.pth").write_text(borrowed)
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel))
    if (Path(site) / "basket_project" / "launcher").exists():
        sys.exit("The wheel contains the launcher, which sets up a checkout.")
    serve(environment / "bin" / "baskets", folder)


def serve(command: Path, folder: Path) -> None:
    """Serve from the installed package, from a folder without the project, and ask for each page."""
    variables = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": "postgres://127.0.0.1:1/unused",
        "DJANGO_SECRET_KEY": "unused-" + "0123456789abcdefghij" * 3,
        "DJANGO_SECURE_COOKIES": "0",
    }
    run(str(command), "check", env=variables, cwd=folder)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / "service.log"
    with log.open("wb") as output:
        served = subprocess.Popen(
            [command, "serve", "--port", str(port), "--workers", "1"], env=variables, cwd=folder, stdout=output, stderr=output
        )
        try:
            missing = [page for page, part in PAGES.items() if part not in fetch(port, page, served)]
        finally:
            served.terminate()
            served.wait(60)
    if missing or served.returncode != 0:
        sys.exit(f"The server ended with {served.returncode}; incomplete: {missing}. Its log:\n{log.read_text()}")
    sys.stdout.write(f"The installed package serves {', '.join(PAGES)}.\n")


def fetch(port: int, page: str, served: "subprocess.Popen[bytes]") -> bytes:
    """Return the body of a page, whatever its status; wait until the server listens."""
    ends = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=START_SECONDS)
        try:
            connection.request("GET", page)
            return connection.getresponse().read()
        except ConnectionError:
            if served.poll() is not None or time.monotonic() > ends:
                raise
            time.sleep(0.2)
        finally:
            connection.close()


def run(*command: str, **options: object) -> None:
    """Run a command; its failure ends this one."""
    subprocess.run(command, check=True, **options)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
