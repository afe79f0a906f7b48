"""What the store and the cast's writer leave behind passes the verifier, live and after a kill."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

from gateway.store import Store
from recorder.note import Checkpoint, VerificationKey, checkpoint_text, format_vkey, public_key
from recorder.note import sign_checkpoint as sign
from recorder.report import State
from recorder.sshsig import sign_sshsig
from recorder.verify import verify_store
from tests.store.kill_writer import run
from tests.store.kills import kill_once
from tests.store.scene import open_store, sql

SEED: Final = b"l" * 32
ORIGIN: Final = "tollhouse.test/log"
VKEY: Final = format_vkey(VerificationKey(ORIGIN, public_key(SEED)))


async def _sign(store: Store) -> int:
    size, root = await store.tree()
    checkpoint = Checkpoint(ORIGIN, size, root)
    sshsig = sign_sshsig(checkpoint_text(checkpoint), SEED)
    await store.add_checkpoint(size, sign(checkpoint, SEED), sshsig)
    return size


async def test_a_finished_session_verifies_beside_the_open_store(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    await run(folder, "s-0", rounds=5)
    store = await open_store(folder)
    size = await _sign(store)
    report = await asyncio.to_thread(verify_store, folder, VKEY)
    assert report.state is State.INTACT, report
    assert (report.leaves, report.signed_leaves, report.checkpoints) == (size, size, 1)
    await store.close()
    # The verifier does look: one changed leaf, and it says so.
    sql(folder, "UPDATE leaf SET time = '2026-07-01T08:00:01.000000Z' WHERE idx = 2")
    assert (await asyncio.to_thread(verify_store, folder, VKEY)).state is State.NOT_INTACT


async def test_a_killed_session_verifies_after_the_restart(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    acknowledged = await asyncio.to_thread(kill_once, folder, "s-0", None, 0.1)
    assert acknowledged
    store = await open_store(folder)
    assert [record.state for record in await store.sessions()] == ["lost"]
    await _sign(store)
    await store.close()
    report = await asyncio.to_thread(verify_store, folder, VKEY)
    assert report.state is State.INTACT, report
    assert [session.closed for session in report.sessions] == [False]
