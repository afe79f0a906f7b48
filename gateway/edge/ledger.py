"""The ledger as the gateway keeps it: leaves go in, signed checkpoints come out.

Leaves are the store's; this module gives them time and salt, signs the tree after
they are committed (at an interval and when a session ends), and sums refused
logins so that a scan cannot flood the record.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from gateway.errors import RecorderFault
from gateway.store import Store
from recorder.leaf import SALT_BYTES, Leaf
from recorder.note import Checkpoint, checkpoint_text, sign_checkpoint
from recorder.sshsig import sign_sshsig


class Ledger:
    """Makes leaves and checkpoints.

    Args:
        store: where both are kept.
        seed: Ed25519 private key that signs checkpoints, 32 bytes.
        origin: the ledger's name in them.
        now: the clock; aware.
    """

    def __init__(
        self,
        store: Store,
        seed: bytes,
        origin: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.store = store
        self.now = now
        self._seed = seed
        self._origin = origin
        self._signing = asyncio.Lock()

    def leaf(self, kind: str, session: str, body: Mapping[str, object]) -> Leaf:
        """One fact, stamped and salted; not in the ledger yet."""
        return Leaf(kind, self.now(), session, body, os.urandom(SALT_BYTES))

    async def append(self, kind: str, session: str, body: Mapping[str, object]) -> int:
        """Put one fact into the ledger and return its index once it is durable.

        Raises:
            RecorderFault: the store does not take it.
        """
        return (await self.store.append(self.leaf(kind, session, body)))[0]

    async def sign(self) -> None:
        """Sign a checkpoint of what is committed, unless the last one covers it.

        Raises:
            RecorderFault: the store cannot be read or written.
        """
        async with self._signing:
            size, root = await self.store.tree()
            last = await self.store.last_checkpoint()
            if size == 0 or (last is not None and last.size >= size):
                return
            checkpoint = Checkpoint(self._origin, size, root)
            note = sign_checkpoint(checkpoint, self._seed)
            signature = sign_sshsig(checkpoint_text(checkpoint), self._seed)
            await self.store.add_checkpoint(size, note, signature)

    async def run(self, interval_s: float, on_fault: Callable[[RecorderFault], None]) -> None:
        """Sign until cancelled.

        Args:
            interval_s: between checkpoints while leaves are added.
            on_fault: told when the store fails; the gate has to come down.
        """
        while True:
            await asyncio.sleep(interval_s)
            try:
                await self.sign()
            except RecorderFault as fault:
                on_fault(fault)
