"""The ledger: checkpoints of what is committed, and one at a time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from gateway.edge.ledger import Ledger
from gateway.errors import RecorderFault
from gateway.store import Store
from recorder.leaf import Leaf
from recorder.note import checkpoint_text, parse_vkey, verify_checkpoint
from recorder.sshsig import verify_sshsig
from recorder.verify import verify_store
from tests.edge.house import LOG_SEED, ORIGIN, VKEY, open_ledger
from tests.tickets import NOW, after

TIMEOUT_S = 20.0


async def test_a_checkpoint_says_what_is_committed(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "state") as ledger:
        assert await ledger.append("gateway.started", "", {"version": "0"}) == 0
        assert await ledger.append("config.loaded", "", {"targets": []}) == 1
        await ledger.sign()
        last = await ledger.store.last_checkpoint()
        assert last is not None
        key = parse_vkey(VKEY)
        found = verify_checkpoint(last.note, key)
        assert (found.origin, found.size, found.root) == (ORIGIN, *await ledger.store.tree())
        verify_sshsig(checkpoint_text(found), last.sshsig or "", key)


async def test_an_empty_or_unchanged_ledger_is_not_signed_again(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "state") as ledger:
        await ledger.sign()
        assert await ledger.store.last_checkpoint() is None
        await ledger.append("gateway.started", "", {})
        await ledger.sign()
        first = await ledger.store.last_checkpoint()
        await ledger.sign()
        assert await ledger.store.last_checkpoint() == first


async def test_many_signers_at_once_make_one_checkpoint(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "state") as ledger:
        await ledger.append("gateway.started", "", {})
        await asyncio.gather(*(ledger.sign() for _ in range(20)))

        async def add_and_sign(number: int) -> None:
            await ledger.append("config.loaded", "", {"number": number})
            await ledger.sign()

        await asyncio.gather(*(add_and_sign(number) for number in range(20)))
        last = await ledger.store.last_checkpoint()
        assert last is not None
        assert last.size == 21
        assert verify_store(tmp_path / "state", VKEY).complete


class Held(Store):
    """A store that holds every append back until it is told to go on."""

    def hold(self) -> None:
        self.begun, self.go = asyncio.Event(), asyncio.Event()

    async def append(self, *leaves: Leaf) -> list[int]:
        self.begun.set()
        await self.go.wait()
        return await super().append(*leaves)


async def test_a_leaf_that_is_not_committed_is_not_signed(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "state", Held) as ledger:
        store = ledger.store
        assert isinstance(store, Held)
        store.hold()
        adding = asyncio.create_task(ledger.append("gateway.started", "", {}))
        async with asyncio.timeout(TIMEOUT_S):
            await store.begun.wait()
            await ledger.sign()
            assert await store.last_checkpoint() is None
            store.go.set()
            await adding
            await ledger.sign()
        last = await store.last_checkpoint()
        assert last is not None
        assert last.size == 1


async def test_time_is_the_ledgers_and_salts_differ(tmp_path: Path) -> None:
    async with open_ledger(tmp_path / "state") as opened:
        ledger = Ledger(opened.store, LOG_SEED, ORIGIN, now=lambda: after(5))
        one, two = (ledger.leaf("gateway.started", "s", {"a": 1}) for _ in range(2))
        assert one.time == two.time == NOW + timedelta(seconds=5)
        assert one.salt != two.salt
        assert (await ledger.store.tree())[0] == 0


async def test_it_signs_at_its_interval_and_tells_when_it_cannot(tmp_path: Path) -> None:
    faults: list[RecorderFault] = []
    told = asyncio.Event()

    def tell(fault: RecorderFault) -> None:
        faults.append(fault)
        told.set()

    async with open_ledger(tmp_path / "state") as ledger:
        await ledger.append("gateway.started", "", {})
        running = asyncio.create_task(ledger.run(0.01, tell))
        async with asyncio.timeout(TIMEOUT_S):
            while await ledger.store.last_checkpoint() is None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await ledger.store.close()
            await told.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert faults
    assert faults[0].rule.startswith("store")
