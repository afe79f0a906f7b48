"""Who may open a store, and what it is made of."""

from __future__ import annotations

import asyncio
import stat
from pathlib import Path

import pytest

from gateway.errors import RecorderFault
from gateway.store import SessionRecord, Store
from gateway.store.database import connect
from tests.store.scene import MAC_KEY, SEAL_KEY, certificate, leaf, open_store, sql
from tests.tickets import ETL, after


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.iterdir())}


async def test_everything_is_for_the_owner_only(store: Store, folder: Path) -> None:
    await store.append(leaf())
    modes = _modes(folder)
    assert modes.pop(folder.name) == 0o700
    assert {"store.sqlite3", "store.sqlite3-wal", "store.lock"} <= set(modes)
    assert set(modes.values()) == {0o600}


@pytest.mark.parametrize("name", ["", "store.sqlite3", "store.lock"])
async def test_what_others_may_reach_is_refused(folder: Path, name: str) -> None:
    await (await open_store(folder)).close()
    (folder / name).chmod(0o750)
    with pytest.raises(RecorderFault, match="Others may") as fault:
        await open_store(folder)
    assert fault.value.rule == "store.folder"
    (folder / name).chmod(0o700)
    await (await open_store(folder)).close()


async def test_two_gateways_never_share_a_store(store: Store, folder: Path) -> None:
    with pytest.raises(RecorderFault, match="Another gateway uses the store"):
        await open_store(folder)
    await store.append(leaf())
    await store.close()
    again = await open_store(folder)
    assert await again.tree_size() == 1
    await again.close()


async def test_a_newer_store_is_left_alone(folder: Path) -> None:
    await (await open_store(folder)).close()
    sql(folder, "PRAGMA user_version = 2")
    with pytest.raises(RecorderFault, match="of version 2, and this gateway knows 1"):
        await open_store(folder)


def test_a_file_that_is_no_database_is_a_fault(folder: Path) -> None:
    folder.mkdir(mode=0o700)
    (folder / "store.sqlite3").touch(0o600)
    (folder / "store.sqlite3").write_bytes(b"not a database " * 500)
    with pytest.raises(RecorderFault, match="cannot be opened"):
        asyncio.run(open_store(folder))


@pytest.mark.parametrize("which", ["mac_key", "seal_key"])
async def test_keys_have_one_length(folder: Path, which: str) -> None:
    keys = {"mac_key": MAC_KEY, "seal_key": SEAL_KEY, which: b"short"}
    with pytest.raises(RecorderFault, match="not 32 bytes"):
        await Store.open(folder, **keys)


async def test_another_mac_key_opens_nothing(folder: Path) -> None:
    await (await open_store(folder)).close()
    with pytest.raises(RecorderFault, match="watermark"):
        await Store.open(folder, mac_key=b"x" * 32, seal_key=SEAL_KEY)


async def test_each_connection_syncs_fully_and_destroys_securely(
    store: Store, folder: Path
) -> None:
    engine = connect(folder)
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    try:
        async with engine.connect() as one, engine.connect() as other:
            for connection in (one, other):
                for pragma, value in wanted.items():
                    found = await connection.exec_driver_sql(f"PRAGMA {pragma}")
                    assert found.scalar_one() == value, pragma
    finally:
        await engine.dispose()


async def test_the_verifiers_tables_are_as_written(store: Store, folder: Path) -> None:
    columns = {
        table: [row[1:4] for row in sql(folder, f"PRAGMA table_info({table})")]
        for table in ("leaf", "checkpoint")
    }
    assert columns["leaf"] == [
        ("idx", "INTEGER", 1),
        ("time", "TEXT", 1),
        ("type", "TEXT", 1),
        ("session", "TEXT", 1),
        ("body", "BLOB", 0),
        ("salt", "BLOB", 0),
        ("body_hash", "BLOB", 1),
    ]
    assert columns["checkpoint"] == [
        ("size", "INTEGER", 1),
        ("note", "TEXT", 1),
        ("sshsig", "TEXT", 1),
    ]


async def test_a_closed_store_takes_nothing(store: Store) -> None:
    await store.close()
    await store.close()
    with pytest.raises(RecorderFault, match="closed"):
        await store.append(leaf())
    with pytest.raises(RecorderFault, match="closed"):
        await store.add_certificate("00" * 32, certificate())


def _session(name: str, opened_s: float) -> SessionRecord:
    cast = f"{name}.cast"
    return SessionRecord(name, ETL.id, "etl", "claims-db", "192.0.2.1", cast, after(opened_s))


async def test_sessions_are_listed_and_do_not_outlive_their_gateway(
    store: Store, folder: Path
) -> None:
    for number in range(3):
        await store.open_session(_session(f"s-{number}", number), leaf("session.open"))
    await store.close_session("s-1", after(9), "done", leaf("session.close"))
    assert [record.id for record in await store.sessions()] == ["s-2", "s-1", "s-0"]
    assert [record.id for record in await store.open_sessions()] == ["s-2", "s-0"]
    closed = (await store.sessions())[1]
    assert (closed.state, closed.closed, closed.reason) == ("closed", after(9), "done")
    with pytest.raises(RecorderFault, match="s-1 is not open"):
        await store.close_session("s-1", after(10), "again", leaf("session.close"))
    assert await store.tree_size() == 4
    await store.close()
    again = await open_store(folder)
    assert [record.state for record in await again.sessions()] == ["lost", "closed", "lost"]
    assert await again.open_sessions() == []
    await again.close()
