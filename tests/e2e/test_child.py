"""What a session's child holds and reaches, seen from outside while it runs.

What a hostile program tries from inside, at each level, is tests/edge/test_sandbox_attempts.py.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.processes import WAIT_S, Process, begin, family, psqls, until
from tests.e2e.scene import Scene
from tests.servers import MAJORS, PASSWORD

ANY = f"db{MAJORS[-1]}"
PSQL_ENVIRONMENT = {"LANG", "PSQL_PAGER", "PSQL_HISTORY", "TERM"}
ADDED_BY_SANDBOX = {"PWD"}
SOCKET_NAME = ".s.PGSQL.5432"
IN_GATEWAYS_ENVIRONMENT = b"from-the-environment"


@contextmanager
def _session(gate: Scene, seconds: int = 20) -> Iterator[Process]:
    """A session whose statement runs; its psql. Its client is killed at the end."""
    gate.ssh(f"{ANY}@etl", "select 1")
    before = {each.pid for each in psqls(gate)}
    client = begin(gate, f"{ANY}@etl", f"select pg_sleep({seconds})")
    try:
        fresh: list[Process] = []

        def connected() -> bool:
            fresh[:] = [each for each in psqls(gate) if each.pid not in before]
            return bool(fresh) and not _sockets(fresh[0])

        until("a psql that is connected", connected)
        yield fresh[0]
    finally:
        client.kill()
        client.communicate(timeout=WAIT_S)
        until("the child to end", lambda: not fresh or not fresh[0].arguments)


def _sockets(psql: Process) -> list[str]:
    """What still lies in the folder of its guard."""
    try:
        return [entry.name for entry in psql.socket_dir.iterdir()]
    except (FileNotFoundError, ValueError):
        return []


def _secrets(gate: Scene) -> list[bytes]:
    """Credentials as they lie in files and in the environment of the gateway."""
    found = [IN_GATEWAYS_ENVIRONMENT, PASSWORD.encode()]
    for path in (gate.folder / "keys").iterdir():
        if path.stat().st_mode & 0o077 == 0:
            body = [line for line in path.read_bytes().split(b"\n") if not line.startswith(b"--")]
            found += [line for line in body if len(line) >= 32]
    assert len(found) > 10
    return found


def _holds(data: bytes, hidden: list[bytes]) -> bool:
    return any(each in data for each in hidden)


def test_environment_and_arguments(gate: Scene) -> None:
    hidden = _secrets(gate)
    with _session(gate) as psql:
        assert psql.pid in [each.pid for each in family(gate)]
        for each in family(gate):
            arguments = (each.folder / "cmdline").read_bytes()
            environment = (each.folder / "environ").read_bytes()
            assert arguments
            assert not _holds(arguments + environment, hidden)
            assert str(gate.folder).encode() not in arguments + environment
            names = {
                entry.partition(b"=")[0].decode() for entry in environment.split(b"\0") if entry
            }
            assert names <= PSQL_ENVIRONMENT | ADDED_BY_SANDBOX
        whole = (psql.folder / "environ").read_bytes().decode()
        assert all(f"{name}=" in whole for name in PSQL_ENVIRONMENT)
    # The gateway has what is looked for: the search can find it.
    assert gate.process is not None
    own = Path(f"/proc/{gate.process.pid}/environ")
    if os.geteuid() == 0:
        assert _holds(own.read_bytes(), hidden)
    else:
        with pytest.raises(PermissionError):
            own.read_bytes()


def test_open_files(gate: Scene) -> None:
    with _session(gate) as psql:
        held = {int(entry.name): str(entry.readlink()) for entry in (psql.folder / "fd").iterdir()}
    assert held.keys() >= {0, 1, 2}
    kinds = {number: target.partition(":")[0] for number, target in held.items()}
    assert [kinds.pop(number) for number in (0, 1, 2)] == ["pipe", "pipe", "pipe"]
    # One connection, to its guard; the poll descriptor is psql's own, where it has one.
    assert sorted(kinds.values()).count("socket") == 1, held
    assert set(kinds.values()) <= {"socket", "anon_inode"}, held


def test_readable_files(gate: Scene) -> None:
    hidden = _secrets(gate)
    with _session(gate) as psql:
        _, uid, _ = _status(psql)
        for path in [*(gate.folder / "keys").iterdir(), gate.config, gate.state]:
            mode = path.stat()
            private = not mode.st_mode & 0o077
            if path == gate.config or path.suffix in (".pub", ".pem"):
                continue
            assert private, path
            assert os.geteuid() != 0 or mode.st_uid != uid, path
        if _level(gate) != "namespaces":
            return  # it sees the same tree; what it may open is tried from inside, see above
        root = psql.folder / "root"
        assert root.is_dir()
        assert not (root / str(gate.folder).lstrip("/")).exists()
        seen = list(_files_below(root))
        assert any(path.name == "psql" for path in seen)
        for path in seen:
            assert not _holds(path.read_bytes(), hidden), path


def _files_below(root: Path) -> Iterator[Path]:
    """Regular files that the child sees in its own mount namespace."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _status(process: Process) -> tuple[int, int, int]:
    """Real, effective and saved user."""
    text = (process.folder / "status").read_text()
    real, effective, saved, _ = text.partition("\nUid:")[2].split("\n")[0].split()
    return int(real), int(effective), int(saved)


def _level(gate: Scene) -> str:
    level: str = json.loads((gate.folder / "ready").read_text())["sandbox"]
    return level


def test_the_guards_socket_is_gone_once_its_child_is_in(gate: Scene) -> None:
    with _session(gate) as psql:
        assert psql.socket_dir.is_dir()
        assert _sockets(psql) == []
        folder = psql.socket_dir
    until("the folder to go", lambda: not folder.exists())


def test_two_sessions_do_not_meet(gate: Scene) -> None:
    with _session(gate) as one, _session(gate) as two:
        assert one.socket_dir != two.socket_dir
        assert _sockets(one) == _sockets(two) == []
        if os.geteuid() == 0:
            assert len({_status(one)[0], _status(two)[0], 0}) == 3
            assert one.socket_dir.stat().st_uid == _status(one)[0]
        assert one.socket_dir.stat().st_mode & 0o077 == 0
        if _level(gate) == "namespaces":
            inside = two.folder / "root" / str(two.socket_dir).lstrip("/")
            assert inside.is_dir()
            foreign = two.folder / "root" / str(one.socket_dir).lstrip("/")
            assert not foreign.exists()


def test_a_foreign_process_that_connects_first_is_turned_away(gate: Scene) -> None:
    with _session(gate) as psql:
        runtime_dir = psql.socket_dir.parent
    answers: list[bytes] = []
    intruder = threading.Thread(target=_intrude, args=(runtime_dir, answers))
    intruder.start()
    try:
        done = gate.ssh(f"{ANY}@etl", "select 'served'")
    finally:
        intruder.join(WAIT_S)
    assert answers == [b""], "the guard spoke to a stranger, or nobody knocked"
    assert done.returncode == 0, done.stderr.decode()
    assert b"served" in done.stdout


def _intrude(runtime_dir: Path, answers: list[bytes]) -> None:
    """Connect to the first guard that listens, before its psql can, and read what it says."""
    startup = b"\0\x03\0\0user\0th_reader\0database\0clinic\0\0"
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        for folder in runtime_dir.iterdir():
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as made:
                made.settimeout(WAIT_S)
                try:
                    made.connect(str(folder / SOCKET_NAME))
                except OSError:
                    continue
                try:
                    made.sendall(struct.pack("!i", len(startup) + 4) + startup)
                    answers.append(made.recv(1024))
                except ConnectionError:
                    answers.append(b"")
                return
        time.sleep(0.001)


def test_nothing_is_left_of_a_session(gate: Scene) -> None:
    for _ in range(3):
        assert gate.ssh(f"{ANY}@etl", "select 1").returncode == 0
    until("the children to end", lambda: not family(gate))
    assert gate.process is not None
    zombies = subprocess.run(
        ["ps", "-o", "stat=", "--ppid", str(gate.process.pid)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split()
    assert not [state for state in zombies if state.startswith("Z")]
