"""The launcher's parts: locks, records in the data folder, processes, installed packages."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from basket_project.launcher import demo, demo_cells, environment, service, static_files
from basket_project.launcher.cluster import port_is_free
from basket_project.launcher.data_folder import DataFolder
from basket_project.launcher.failure import Failure
from basket_project.launcher.locking import FileLock
from basket_project.launcher.processes import group_members, started_at, terminate_group
from basket_project.launcher.programs import run_quietly


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    """A fresh data folder."""
    made = DataFolder(tmp_path / "data")
    made.make()
    return made


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Let the environment be a folder of this test, and record what is done to it."""
    done: list[str] = []
    (tmp_path / "python").touch()
    monkeypatch.setattr(environment, "_RECORD", tmp_path / "installed.json")
    monkeypatch.setattr(environment, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(environment, "_create", lambda: done.append("new"))
    monkeypatch.setattr(environment, "_install", done.append)
    return done


def test_a_second_set_up_has_nothing_to_do(installed: list[str]) -> None:
    environment.ensure_environment(["run", "test"])
    environment.ensure_environment(["run"])
    assert installed == ["new", "run", "test"]


def test_a_set_up_adds_what_an_earlier_one_left_out(installed: list[str]) -> None:
    environment.ensure_environment(["run"])
    environment.ensure_environment(["run", "dev"])
    assert installed == ["new", "run", "dev"]


def test_an_interrupted_set_up_starts_over(installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment.ensure_environment(["run"])

    def interrupted(_name: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(environment, "_install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            environment.ensure_environment(["run", "test"])
    environment.ensure_environment(["run"])
    assert installed == ["new", "run", "new", "run"]


@pytest.mark.parametrize("what", ["_digest", "_python_fingerprint"])
def test_another_lock_or_python_recreates_the_environment(what: str, installed: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    environment.ensure_environment(["run"])
    monkeypatch.setattr(environment, what, lambda *_: "changed")
    environment.ensure_environment(["run"])
    assert installed == ["new", "run", "new", "run"]


@pytest.fixture
def static_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[Path, list[str]]:
    """Let the static files have a source and a folder of this test, and record each collection."""
    source, root, done = tmp_path / "source", tmp_path / "static", []
    source.mkdir()
    root.mkdir()
    (source / "a.css").write_text("a {}")
    for name, value in (("PROJECT", tmp_path), ("_SOURCES", (source,)), ("STATIC_ROOT", root), ("_RECORD", root / "version.txt")):
        monkeypatch.setattr(static_files, name, value)
    monkeypatch.setattr(static_files, "_collect", lambda: done.append((source / "a.css").read_text()))
    return source, done


def test_static_files_are_collected_once_for_each_version(static_root: tuple[Path, list[str]]) -> None:
    source, done = static_root
    found = [static_files.static_variables() for _ in range(2)]
    (source / "a.css").write_text("b {}")
    found.append(static_files.static_variables())
    assert done == ["a {}", "b {}"]
    assert found == [{"DJANGO_STATIC_ROOT": str(static_files.STATIC_ROOT)}] * 3


def test_an_interrupted_collection_is_done_again(static_root: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as during:
        during.setattr(static_files, "_collect", interrupted)
        with pytest.raises(KeyboardInterrupt):
            static_files.static_variables()
    static_files.static_variables()
    assert static_root[1] == ["a {}"]


def test_static_files_of_the_operator_are_left_alone(static_root: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_STATIC_ROOT", "/srv/static")
    assert static_files.static_variables() == {"DJANGO_STATIC_ROOT": "/srv/static"}
    assert static_root[1] == []


def test_a_folder_of_static_files_that_cannot_be_written_is_named(
    static_root: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> None:
        raise PermissionError(13, "Permission denied", str(static_files.STATIC_ROOT))

    monkeypatch.setattr(static_files, "_collect", refused)
    with pytest.raises(Failure, match=r"cannot be written to .*/static: "):
        static_files.static_variables()


def test_a_lock_is_free_again_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, time, pathlib; from basket_project.launcher.locking import FileLock;"
        "lock = FileLock(pathlib.Path(sys.argv[1])); lock.acquire(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lock = FileLock(path)
        assert not lock.try_acquire()
        holder.kill()
        holder.wait()
        assert lock.try_acquire()
        lock.release()


def test_a_shared_lock_becomes_a_sole_one_for_the_last_holder_only(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.acquire(shared=True)
    second.acquire(shared=True)
    assert not first.try_acquire()
    first.release()
    assert second.try_acquire()
    second.release()


def test_a_secret_is_generated_once_and_readable_by_its_owner_only(folder: DataFolder) -> None:
    secret = folder.secret("django_secret_key")
    assert len(secret) >= 50
    assert folder.secret("django_secret_key") == secret
    assert folder.secret("another") != secret
    assert (folder.path / "secrets.json").stat().st_mode & 0o777 == 0o600


def test_a_broken_record_is_named(folder: DataFolder) -> None:
    (folder.path / "secrets.json").write_text("{")
    with pytest.raises(Failure, match=r"secrets\.json cannot be read"):
        folder.secret("django_secret_key")


def start_sleeper(**variables: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["/bin/sleep", "60"], process_group=0, env={**os.environ, **variables})


def test_the_service_of_a_killed_launcher_is_stopped(folder: DataFolder) -> None:
    with start_sleeper() as left:
        folder.write("service", {"pid": left.pid, "started": started_at(left.pid), "marker": "m" * 24, "url": "http://127.0.0.1:1"})
        assert service.stop_left_over(folder)
        assert left.wait(30) != 0
    assert folder.read("service") == {}


def test_another_process_with_the_recorded_id_is_left_alone(folder: DataFolder) -> None:
    with start_sleeper() as stranger:
        folder.write("service", {"pid": stranger.pid, "started": "another moment", "marker": "m" * 24, "url": "http://127.0.0.1:1"})
        assert not service.stop_left_over(folder)
        assert stranger.poll() is None
        stranger.kill()


def test_a_group_that_ignores_sigterm_is_killed() -> None:
    deaf = "trap '' TERM; echo deaf; while :; do sleep 1; done"
    with subprocess.Popen(["/bin/sh", "-c", deaf], process_group=0, stdout=subprocess.PIPE) as group:
        assert group.stdout is not None
        assert group.stdout.readline() == b"deaf\n"
        assert group.pid in group_members(group.pid)
        began = time.monotonic()
        terminate_group(group.pid, grace_seconds=0.3)
        assert time.monotonic() - began < 5
        group.wait(30)
    assert group_members(group.pid) == []
    assert started_at(group.pid) is None


def test_a_stopped_process_is_continued_and_ends() -> None:
    # The child must not inherit ignored signals from a test that ended a command.
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_DFL); print('ready', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], process_group=0, stdout=subprocess.PIPE) as frozen:
        assert frozen.stdout is not None
        assert frozen.stdout.readline() == b"ready\n"
        os.kill(frozen.pid, signal.SIGSTOP)
        began = time.monotonic()
        terminate_group(frozen.pid, grace_seconds=30)
        assert time.monotonic() - began < 15
        assert frozen.wait(30) == -signal.SIGTERM


def test_the_log_of_the_service_is_readable_by_its_owner_only(folder: DataFolder) -> None:
    before = os.umask(0)
    try:
        folder.open_service_log().close()
    finally:
        os.umask(before)
    assert folder.service_log.stat().st_mode & 0o777 == 0o600


def test_a_port_with_a_listener_is_not_free(listening_port: int) -> None:
    assert not port_is_free(listening_port)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        unused: int = probe.getsockname()[1]
    assert port_is_free(unused)


@pytest.mark.parametrize(
    ("command", "variables", "text"),
    [("no_such_command", {}, "no_such_command"), ("check", {"BASKETS_CART_LIMIT": "0"}, "(baskets.E004) BASKETS_CART_LIMIT")],
)
def test_a_failed_management_command_gives_one_sentence(command: str, variables: dict[str, str], text: str) -> None:
    with pytest.raises(Failure) as failed:
        run_quietly([command], os.environ | variables)
    assert text in str(failed.value)
    assert "\n" not in str(failed.value)


def test_the_recorded_url_is_found(folder: DataFolder) -> None:
    assert service.left_over_url(folder) is None
    (folder.path / "service.json").write_text(json.dumps({"url": "http://127.0.0.1:8000"}))
    assert service.left_over_url(folder) == "http://127.0.0.1:8000"


def test_a_demo_of_cells_without_haproxy_names_the_address_of_each_cell(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demo_cells.shutil, "which", lambda *_, **__: None)
    services = [service.Service(folder.of_cell(cell), 8000 + cell, {}) for cell in (1, 2, 3)]
    assert demo_cells.start_proxy(folder, 8000, [each.port for each in services], {}) is None
    assert capsys.readouterr().err == f"{demo_cells.NO_HAPROXY}\n"
    access = {"api_key": "k", "test_api_key": "t", "admin_user": "a", "admin_password": "p", "user_id": "u", "order_no": None}
    cells = [demo._Installation("", each, access | {"order_no": "1" if each is services[1] else None}) for each in services]
    demo._announce(demo.DemoOptions(port=8000, data=folder.path, as_json=False, cells=3), folder, cells, None)
    greeting = capsys.readouterr().out
    assert demo_cells.NO_HAPROXY in greeting
    assert [f"Cell {cell}    http://127.0.0.1:{8000 + cell} " in greeting for cell in (1, 2, 3)] == [True] * 3
    # The address of the example is that of the cell that has its user.
    assert "http://127.0.0.1:8002/baskets/users/u/checkout/sessions/finish-active" in greeting
    assert "127.0.0.1:8000" not in greeting
