"""Real parts of the edge in one folder: a store, a ledger, a recording, and a client at its end.

The store, the ledger and the cast are the product's own; the clerk and the
execution are scripts behind the runner's own interfaces.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from gateway.core.approval import BoundFields, Grant, Ticket
from gateway.core.events import Judgement, Line, Summary
from gateway.core.identity import Identity
from gateway.core.mask import Masked, masked_message
from gateway.core.verdict import Verdict
from gateway.edge.door import Admission
from gateway.edge.ledger import Ledger
from gateway.edge.recording import Recording
from gateway.edge.runner import Sink
from gateway.store import Store
from gateway.store.reading import leaves
from recorder.note import VerificationKey, format_vkey, public_key
from recorder.report import StoreReport
from recorder.verify import verify_store
from tests.sql.gate import judged
from tests.tickets import ETL, ask

LOG_SEED: Final = b"l" * 32
ORIGIN: Final = "log.example/edge"
VKEY: Final = format_vkey(VerificationKey(ORIGIN, public_key(LOG_SEED)))
DIGEST_KEY: Final = b"d" * 32
SESSION: Final = "s-1"
PLANTED: Final = "536-22-8726"
"""Looks like an SSN; stands in texts of exceptions that must never be told."""

ALLOW: Final = Verdict("allow", "etl-reads", "permitted")
DENY: Final = Verdict("deny", "no-ddl", "definitions change elsewhere", "use a migration")
SELECT: Final = Line(b"select id from claims", "single")
DROP: Final = Line(b"drop table claims", "single")


def admission(identity: Identity = ETL, target: str = "claims-db", **changed: Any) -> Admission:
    """Somebody who came in and may stay for a quarter of an hour."""
    facts: dict[str, Any] = {
        "blob_sha256": "ab" * 32,
        "serial": 7,
        "valid_before": datetime.now(UTC) + timedelta(minutes=15),
        "address": "192.0.2.7",
    }
    return Admission(identity, target, **(facts | changed))


def judgement(verdict: Verdict = ALLOW, line: Line = SELECT) -> Judgement:
    """A line as the gate really parsed it, with the verdict of one's choice."""
    parsed = judged(line.text)
    fields = BoundFields(
        line.text, "claims-db", "claims", "reader", ETL.id, "p" * 64, "m" * 64, parsed.catalog
    )
    return Judgement(line, parsed, verdict, fields, "reader")


def held() -> Judgement:
    """A line that waits for people."""
    return judgement(ask())


@dataclass
class House:
    """A state folder and what stands in it.

    Attributes:
        state: as ``verify`` takes it.
        ledger: real, over a real store.
        record: of the one session.
    """

    state: Path
    ledger: Ledger
    record: Recording

    @property
    def cast(self) -> Path:
        """The session's recording."""
        return self.state / "casts" / f"{SESSION}.cast"

    def events(self) -> list[tuple[str, str]]:
        """Code and data of each line that is in the file now."""
        lines = self.cast.read_text().splitlines()[1:]
        return [(code, data) for _, code, data in map(json.loads, lines)]

    def types(self) -> list[str]:
        """The types of the session's leaves, in order."""
        return [leaf["type"] for leaf in leaves(self.state, SESSION)]

    def body(self, type_: str) -> dict[str, Any]:
        """The body of the session's last leaf of a type."""
        found = [leaf["body"] for leaf in leaves(self.state, SESSION) if leaf["type"] == type_]
        body: dict[str, Any] = found[-1]
        return body

    def verified(self) -> StoreReport:
        """What the verifier says of the whole folder."""
        return verify_store(self.state, VKEY)

    def fill_disk(self) -> None:
        """From now on the kernel answers every write to the cast with ENOSPC."""
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, self.record._writer._cast_fd)
        os.close(full)


async def open_record(state: Path, ledger: Ledger, kind: type[Recording] = Recording) -> Recording:
    """Open the one session's recording."""
    return await kind.open(
        session=SESSION,
        ledger=ledger,
        casts_dir=state / "casts",
        admission=admission(),
        facts={"form": "single", "sandbox": "none"},
        digest_key=DIGEST_KEY,
    )


@asynccontextmanager
async def open_ledger(state: Path, kind: type[Store] = Store) -> AsyncIterator[Ledger]:
    """A ledger on a store of its own in a new state folder."""
    store = await kind.open(state, mac_key=b"m" * 32, seal_key=b"s" * 32)
    (state / "casts").mkdir(mode=0o700, exist_ok=True)
    try:
        yield Ledger(store, LOG_SEED, ORIGIN)
    finally:
        await store.close()


@asynccontextmanager
async def open_house(
    folder: Path, store: type[Store] = Store, record: type[Recording] = Recording
) -> AsyncIterator[House]:
    """A house with one open session."""
    state = folder / "state"
    async with open_ledger(state, store) as ledger:
        yield House(state, ledger, await open_record(state, ledger, record))


def open_descriptors() -> int:
    """How many descriptors this process holds."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


def runs(pid: int) -> bool:
    """Whether there is such a process."""
    return Path(f"/proc/{pid}").exists()


async def forever() -> None:
    """Wait for something that does not come."""
    await asyncio.Event().wait()


@dataclass
class ScriptedClerk:
    """Answers as told: a value, or something to await that may raise."""

    log: list[str]
    judging: Callable[[Line], Awaitable[Judgement]]
    seeking: Callable[[Judgement], Awaitable[Grant | Ticket]] | None = None
    settling: Callable[[Judgement, Ticket], Awaitable[Grant]] | None = None

    async def judge(self, line: Line) -> Judgement:
        self.log.append("judge")
        return await self.judging(line)

    async def seek(self, judgement: Judgement) -> Grant | Ticket:
        self.log.append("seek")
        assert self.seeking is not None
        return await self.seeking(judgement)

    async def settled(self, judgement: Judgement, ticket: Ticket) -> Grant:
        self.log.append("settled")
        assert self.settling is not None
        return await self.settling(judgement, ticket)


@dataclass
class ScriptedExecution:
    """A child that says what it is told to; notes each call."""

    log: list[str]
    preparing: Callable[[], Awaitable[None]] | None = None
    running: Callable[[Sink], Awaitable[None]] | None = None
    stopping: Callable[[], Awaitable[None]] | None = None

    async def prepare(self, judgement: Judgement) -> None:
        self.log.append("prepare")
        if self.preparing is not None:
            await self.preparing()

    async def run(self, judgement: Judgement, grant: Grant, sink: Sink) -> Summary:
        self.log.append("run")
        if self.running is not None:
            await self.running(sink)
        else:
            await sink(masked_message("(1 row)\n"), False)
        return Summary(exit_code=3, rows=1, out_bytes=8, masked=(("column:ssn", 2),))

    async def release(self) -> None:
        await self.stop()

    async def stop(self) -> None:
        self.log.append("stop")
        if self.stopping is not None:
            await self.stopping()


@dataclass
class Client:
    """The far end: keeps what it was sent and the exit codes."""

    log: list[str]
    stdout: bytes = b""
    stderr: bytes = b""
    exits: list[int] = field(default_factory=list)

    async def send(self, data: Masked, *, stderr: bool = False) -> None:
        self.log.append("sent stderr" if stderr else "sent")
        if stderr:
            self.stderr += data.data
        else:
            self.stdout += data.data

    def exit(self, code: int) -> None:
        self.log.append("exit")
        self.exits.append(int(code))
