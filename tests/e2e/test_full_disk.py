"""No room for the record: nothing runs, the client is told, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import resource
import secrets
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.e2e.processes import family, until
from tests.e2e.scene import Scene, scene
from tests.servers import MAJORS, Server, throwaway

MAJOR = MAJORS[-1]
TARGET = f"db{MAJOR}"
SIZE_BYTES = 1 << 20


@contextmanager
def _small_disk(folder: Path) -> Iterator[bool]:
    """A file system of 1 MB; False where this user cannot mount one."""
    folder.mkdir(mode=0o700)
    command = ("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=0700", "none", str(folder))
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(("umount", str(folder)), check=True)


def _write_on(file: IO[bytes], block: bytes) -> None:
    while True:
        file.write(block)


def _fill(folder: Path) -> None:
    """Write until there is not one byte left."""
    with (folder / "ballast").open("wb", buffering=0) as ballast:
        for size in (65_536, 4_096, 1):
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                _write_on(ballast, bytes(size))


@pytest.fixture(scope="module")
def pg() -> Iterator[Server]:
    """A server of one's own: two scenes use it, one after the other."""
    with throwaway(MAJOR) as server:
        yield server


def test_a_full_tmpfs(pg: Server, tmp_path: Path) -> None:
    with _small_disk(tmp_path / "state") as mounted:
        if not mounted:
            pytest.skip("NOT CHECKED: a full 1 MB disk needs root; a limit on files stands in")
        with _installation(pg, tmp_path / "state") as own:
            _goes_without_room(
                own,
                tmp_path / "state",
                fill=lambda: _fill(tmp_path / "state"),
                empty=(tmp_path / "state" / "ballast").unlink,
                ends={0, 70},
            )


def test_files_that_may_not_grow(pg: Server, tmp_path: Path) -> None:
    """The same for users who cannot mount: no file of the gateway takes another byte."""
    (tmp_path / "state").mkdir(mode=0o700)
    with _installation(pg, tmp_path / "state") as own:

        def fill() -> None:
            assert own.process is not None
            hard = resource.prlimit(own.process.pid, resource.RLIMIT_FSIZE)[1]
            resource.prlimit(own.process.pid, resource.RLIMIT_FSIZE, (1, hard))

        # 1 where it could not even say why: its stderr is a file, too.
        _goes_without_room(own, tmp_path / "state", fill=fill, empty=lambda: None, ends={0, 1, 70})


@contextmanager
def _installation(pg: Server, state: Path) -> Iterator[Scene]:
    with scene(own_servers={MAJOR: pg}, state_dir=state) as own:
        yield own


def _goes_without_room(
    own: Scene,
    state: Path,
    *,
    fill: Callable[[], None],
    empty: Callable[[], None],
    ends: set[int],
) -> None:
    mark = secrets.token_hex(8)
    delete = f"delete from claims where id = {1_000_000 + secrets.randbelow(1_000_000)}"
    server = own.servers[MAJOR]
    assert own.ssh(f"{TARGET}@etl", f"select '{mark}-before'").returncode == 0
    own.grant(f"{TARGET}@etl", delete)
    until("quiet", lambda: not family(own))
    fill()
    try:
        refused = [
            own.ssh(f"{TARGET}@etl", f"select '{mark}-full'"),
            own.ssh(f"{TARGET}@etl", f"select '{mark}-full'", env={"TOLLHOUSE_JSON": "1"}),
            own.ssh(f"{TARGET}@etl", script=f"select 1;\nselect '{mark}-full';\n"),
            own.ssh(f"{TARGET}@etl", delete),
        ]
    finally:
        empty()
    log = server.log()
    assert f"{mark}-before" in log
    assert f"{mark}-full" not in log
    assert delete not in log
    first = refused[0]
    assert (first.returncode, first.stdout) == (70, b""), first.stderr
    assert b"tollhouse: gateway error [" in first.stderr
    assert b"What to do: " in first.stderr
    for done in refused[1:]:
        # 255 once the gateway has noticed by itself and closed the gate.
        assert done.returncode in (70, 255), done.stderr
        assert done.stdout == b""
    told = [json.loads(line) for line in refused[1].stderr.decode().splitlines() if "{" in line]
    assert all((line["type"], line["exit_code"]) == ("refusal", 70) for line in told)

    # Whether it still lives or ended by itself, it starts again and has lost nothing.
    assert own.stop() in ends
    own.start()
    verified = own.tollhouse("verify", "--vkey", _vkey(own), str(state))
    assert verified.returncode == 0, verified.stdout
    assert f"{mark}-full" not in server.log()
    done = own.ssh(f"{TARGET}@etl", delete)
    assert (done.returncode, done.stdout) == (0, b"DELETE 0\n"), done.stderr.decode()
    assert own.ssh(f"{TARGET}@etl", delete).returncode == 75
    own.stop()
    again = own.tollhouse("verify", "--vkey", _vkey(own), str(state))
    assert again.returncode == 0, again.stdout


def _vkey(own: Scene) -> str:
    return (own.folder / "state" / "log.vkey").read_text().strip()
