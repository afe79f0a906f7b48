"""Leaves, the tree over them, and checkpoints."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.errors import RecorderFault
from gateway.store import Store
from recorder.leaf import Leaf, envelope_bytes
from recorder.merkle import EMPTY_ROOT, leaf_hash
from tests.store.kills import leaf_digest, merkle_root
from tests.store.scene import leaf, open_store, saved


async def test_leaves_get_indices_without_gaps_whoever_comes_first(
    store: Store, folder: Path
) -> None:
    assert await store.tree() == (0, EMPTY_ROOT)
    assert await store.append(leaf(), leaf()) == [0, 1]
    assert await store.append() == []
    indices = await asyncio.gather(*(store.append(leaf(n=n)) for n in range(30)))
    assert sorted(index for (index,) in indices) == list(range(2, 32))
    rows = saved(folder, "leaf")
    size, root = await store.tree()
    assert size == len(rows) == await store.tree_size()
    assert merkle_root([leaf_digest(row) for row in rows]) == root


async def test_rows_hold_what_the_envelope_commits_to(store: Store, folder: Path) -> None:
    one = leaf("certificate.issued", name="ä", serial="ff")
    await store.append(one)
    ((index, time, type_, session, body, salt, _),) = saved(folder, "leaf")
    assert (index, type_, session, salt) == (0, "certificate.issued", "s-1", one.salt)
    assert time == "2026-07-01T08:00:00.000000Z"
    assert json.loads(body) == {"name": "ä", "serial": "ff"}
    assert await store.leaf_hashes() == [leaf_hash(envelope_bytes(one))]
    assert await store.leaf_hashes(1) == []


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(sizes=st.lists(st.integers(0, 5), max_size=6))
def test_reopening_finds_the_same_tree(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("ledger")

    async def run() -> None:
        total = 0
        for size in sizes:
            store = await open_store(folder)
            assert await store.tree_size() == total
            await store.append(*(leaf(n=n) for n in range(size)))
            total += size
            tree = await store.tree()
            await store.close()
            digests = [leaf_digest(row) for row in saved(folder, "leaf")]
            assert tree == (total, merkle_root(digests))

    asyncio.run(run())


@pytest.mark.parametrize(
    "bad",
    [
        Leaf("no.such.type", leaf().time, "", {}, bytes(32)),
        Leaf("command.decided", leaf().time, "", {"rate": 0.5}, bytes(32)),
        Leaf("command.decided", leaf().time, "", {}, bytes(31)),
        Leaf("command.decided", datetime(2026, 7, 1), "", {}, bytes(32)),  # noqa: DTZ001
        Leaf("command.decided", leaf().time, "s" * 70_000, {}, bytes(32)),
    ],
    ids=["type", "float", "salt", "zone", "long"],
)
async def test_a_leaf_that_cannot_be_written_takes_all_with_it(store: Store, bad: Leaf) -> None:
    with pytest.raises(RecorderFault, match="record cannot be written"):
        await store.append(leaf(), bad)
    assert await store.tree() == (0, EMPTY_ROOT)
    assert await store.append(leaf()) == [0]


async def test_checkpoints(store: Store) -> None:
    assert await store.last_checkpoint() is None
    await store.append(leaf(), leaf())
    await store.add_checkpoint(1, "note 1", "sig 1")
    await store.add_checkpoint(2, "note 2", "sig 2")
    last = await store.last_checkpoint()
    assert last is not None
    assert (last.size, last.note, last.sshsig) == (2, "note 2", "sig 2")
    with pytest.raises(RecorderFault, match="ahead of its ledger"):
        await store.add_checkpoint(3, "note", "sig")
    with pytest.raises(RecorderFault):
        await store.add_checkpoint(2, "another", "sig")


async def test_a_caller_that_is_cancelled_does_not_stop_a_transaction(
    store: Store, folder: Path
) -> None:
    for turns in range(1, 12):
        task = asyncio.ensure_future(store.append(leaf(n=turns), leaf(n=turns)))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await store.append(leaf())
    rows = saved(folder, "leaf")
    # All that began was finished, although nobody waited for it.
    assert len(rows) == 11 * 2 + 1
    assert await store.tree() == (len(rows), merkle_root([leaf_digest(row) for row in rows]))
