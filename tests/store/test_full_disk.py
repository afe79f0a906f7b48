"""A disk without room: a fault, nothing acknowledged, nothing torn, and then on again."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Connection, event
from sqlalchemy.exc import OperationalError

from gateway.errors import ExitCode, RecorderFault
from gateway.store import Store
from tests.store.kills import ROOT, Outcome, check, leaf_digest, merkle_root
from tests.store.scene import granted, leaf, open_store, saved, sql

SIZE_BYTES = 1 << 20
BALLAST_BYTES = 128 << 10


def _cap_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE_BYTES, SIZE_BYTES))


@contextmanager
def _small_disk(folder: Path, *, mounted: bool) -> Iterator[Callable[[], None] | None]:
    """A file system of 1 MB in a folder, or what a child does to cap each of its files at that.

    Mounting needs root; where it is not allowed, the cap stands in for it.
    """
    folder.mkdir(mode=0o700)
    command = ("mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=0700", "none", str(folder))
    if not mounted or subprocess.run(command, capture_output=True, check=False).returncode:
        yield _cap_files
        return
    try:
        yield None
    finally:
        subprocess.run(("umount", str(folder)), check=True)


@pytest.mark.parametrize("mounted", [True, False], ids=["tmpfs", "limit"])
def test_a_full_disk_acknowledges_nothing(tmp_path: Path, mounted: bool) -> None:
    folder = tmp_path / "state"
    with _small_disk(folder, mounted=mounted) as cap:
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(BALLAST_BYTES))
        done = subprocess.run(
            (sys.executable, "-m", "tests.store.kill_writer", str(folder), "s-0"),
            cwd=ROOT,
            capture_output=True,
            preexec_fn=cap,
            check=False,
        )
        assert done.returncode == ExitCode.GATEWAY_FAULT, done.stderr[-2000:]
        *said, last = done.stdout.decode().splitlines()
        assert last in ("fault RecorderFault", "fault RecorderError")
        assert said[0] == "ready"
        acknowledged = {}
        for line in said[1:]:
            session, number, ticket, index = line.split()
            acknowledged[session, int(number)] = (ticket, int(index))
        assert len(acknowledged) > 5
        ballast.unlink()
        check(folder, "s-0", Outcome(acknowledged=acknowledged))
        assert shutil.disk_usage(folder).total >= SIZE_BYTES


@contextmanager
def _no_room() -> Iterator[None]:
    """No file of this process may be written beyond its first byte."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_once_there_is_room_the_same_store_goes_on(store: Store, folder: Path) -> None:
    ticket, grant = await granted(store)
    size, root = await store.tree()
    with _no_room():
        for _ in range(2):
            with pytest.raises(RecorderFault, match="store cannot be written"):
                await store.commit_intent(leaf(), grant, ticket.requested)
    assert await store.tree() == (size, root)
    assert (await store.ticket(ticket.id)).state == "granted"
    assert await store.commit_intent(leaf(), grant, ticket.requested) == size
    rows = saved(folder, "leaf")
    assert (await store.tree())[1] == merkle_root([leaf_digest(row) for row in rows])


async def test_a_commit_whose_answer_was_lost_is_found_again(store: Store, folder: Path) -> None:
    ticket, grant = await granted(store)

    def lose_the_answer(connection: Connection) -> None:
        connection.exec_driver_sql("COMMIT")
        raise OperationalError("COMMIT", None, Exception("lost"))

    engine = store._journal._engine.sync_engine
    event.listen(engine, "commit", lose_the_answer)
    with pytest.raises(RecorderFault):
        await store.commit_intent(leaf(), grant, ticket.requested)
    event.remove(engine, "commit", lose_the_answer)
    # It was told as a failure, so nothing ran; but the grant is gone and the leaf is there.
    assert (await store.ticket(ticket.id)).state == "spent"
    assert await store.append(leaf()) == [3]
    rows = saved(folder, "leaf")
    assert await store.tree() == (4, merkle_root([leaf_digest(row) for row in rows]))
    await store.close()
    again = await open_store(folder)
    assert await again.tree_size() == 4
    await again.close()


async def test_a_damaged_database_is_a_fault(store: Store, folder: Path) -> None:
    await store.append(leaf())
    sql(folder, "DROP TABLE checkpoint")
    with pytest.raises(RecorderFault, match="cannot be read"):
        await store.last_checkpoint()
    assert await store.append(leaf()) == [1]
