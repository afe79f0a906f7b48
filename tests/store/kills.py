"""Kills the writer at random points and looks at what is left.

    python -m tests.store.kills KILLS SEED > docs/runs/intent-kills.txt

The checks share with the writer the written format only: rows by the standard
library's sqlite3, the tree by RFC 6962's own words, casts by the verifier.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from recorder.report import State
from recorder.verify import verify_cast
from tests.store.scene import open_store

ROOT: Final = Path(__file__).parents[2]
FRESH_EVERY: Final = 10
"""Every so many kills the child starts an empty store and is killed while it does."""


@dataclass
class Outcome:
    """What was seen over all kills.

    Attributes:
        counts: kills, acknowledged intents, and in which gaps kills fell.
        acknowledged: (session, round) to (ticket or ``-``, leaf index).
    """

    counts: Counter[str] = field(default_factory=Counter)
    acknowledged: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)


def kill_repeatedly(base: Path, kills: int, seed: int) -> Outcome:
    """Kill a writer so many times, checking after each; raises AssertionError if anything is off.

    Args:
        base: an empty folder.
        kills: how often.
        seed: of the moments.
    """
    moments = random.Random(seed)
    outcome = Outcome()
    for number in range(kills):
        if number % FRESH_EVERY == FRESH_EVERY - 1:
            folder, startup_s = base / f"fresh-{number}", moments.uniform(0.2, 0.9)
            outcome.counts["kills while a store is created or opened"] += 1
        else:
            folder, startup_s = base / "state", None
        session = f"s-{number}"
        acknowledged = kill_once(folder, session, startup_s, moments.uniform(0.0, 0.08))
        mine = outcome if startup_s is None else Outcome()
        mine.acknowledged |= acknowledged
        check(folder, session, mine)
        outcome.counts["kills"] += 1
        outcome.counts["intents acknowledged"] += len(acknowledged)
        if mine is not outcome:
            outcome.counts += mine.counts
    return outcome


def kill_once(
    folder: Path, session: str, startup_s: float | None, delay_s: float
) -> dict[tuple[str, int], tuple[str, int]]:
    """Start a writer, kill it, and return what it had acknowledged.

    Args:
        folder: of the store.
        session: its session.
        startup_s: kill so long after the start; None waits until it writes.
        delay_s: kill so long after it began to write.
    """
    command = (sys.executable, "-m", "tests.store.kill_writer", str(folder), session)
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        if startup_s is None:
            assert child.stdout.readline() == b"ready\n"
            time.sleep(delay_s)
        else:
            time.sleep(startup_s)
        os.kill(child.pid, signal.SIGKILL)
        said = child.stdout.read()
        assert child.wait() == -signal.SIGKILL
    acknowledged = {}
    # What follows the last line feed was not said in full.
    for line in said.decode().split("\n")[:-1]:
        if line == "ready":
            continue
        name, number, ticket, index = line.split()
        acknowledged[name, int(number)] = (ticket, int(index))
    return acknowledged


def check(folder: Path, session: str, outcome: Outcome) -> None:
    """Open the store again and compare acknowledgements, leaves, tickets, cast and tree."""
    size, root = asyncio.run(_reopen(folder))
    with sqlite3.connect(f"file:{folder}/store.sqlite3?mode=ro", uri=True) as connection:
        leaves = connection.execute("SELECT * FROM leaf ORDER BY idx").fetchall()
        spent = connection.execute("SELECT number FROM ticket WHERE state = 'spent'").fetchall()
        sealed = connection.execute(
            "SELECT count(*) FROM ticket WHERE (text IS NULL) != (state = 'spent')"
        ).fetchone()[0]
    connection.close()
    assert [leaf[0] for leaf in leaves] == list(range(size)), "the tree has a gap"
    assert merkle_root([leaf_digest(leaf) for leaf in leaves]) == root
    decided = {}
    for index, _, type_, name, body, _, _ in leaves:
        if type_ == "command.decided":
            members = json.loads(body)
            decided[name, members["round"]] = (members["ticket"] or "-", index)
    grants = [ticket for ticket, _ in decided.values() if ticket != "-"]
    assert len(grants) == len(set(grants)), "a grant was spent twice"
    assert set(grants) == {f"T-{number}" for (number,) in spent}, "spent without a leaf"
    assert not sealed, "a text outlived its ticket, or died before it"
    for intent, where in outcome.acknowledged.items():
        assert decided.get(intent) == where, f"{intent} was acknowledged and is not in the ledger"
    rounds = {number for name, number in decided if name == session}
    said = {number for name, number in outcome.acknowledged if name == session}
    outcome.counts["kills between commit and acknowledgement"] += len(rounds - said)
    _check_cast(folder / "casts" / f"{session}.cast", rounds, outcome)


def _check_cast(path: Path, rounds: set[int], outcome: Outcome) -> None:
    if not path.exists():
        assert not rounds
        return
    report = verify_cast(path)
    # A kill while the files are being made leaves one that proves nothing and holds nothing.
    if report.state is State.UNREADABLE:
        assert not rounds
        outcome.counts["kills while a cast is created"] += 1
        return
    assert report.state is State.INTACT, report
    whole = path.read_bytes().split(b"\n")[1:-1]
    events = [json.loads(line) for line in whole]
    shown = {int(event[2].split()[1]) for event in events if event[1] == "i"}
    assert rounds <= shown, "an intent is in the ledger and not in the cast"
    outcome.counts["kills between cast and commit"] += len(shown - rounds)
    outcome.counts["unproven lines"] += report.lines - report.proven_lines


async def _reopen(folder: Path) -> tuple[int, bytes]:
    store = await open_store(folder)
    try:
        assert store.refused_rows == 0
        await store.tickets()
        return await store.tree()
    finally:
        await store.close()


def leaf_digest(row: tuple[Any, ...]) -> bytes:
    """RFC 6962's leaf hash of a row, from its body and salt (docs/formats.md, "Ledger")."""
    _, time_, type_, session, body, salt, body_hash = row
    assert hashlib.sha256(salt + body).digest() == body_hash
    envelope = {"body": body_hash.hex(), "session": session, "time": time_, "type": type_}
    canonical = json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()
    return hashlib.sha256(b"\x00" + canonical).digest()


def merkle_root(digests: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there."""
    if not digests:
        return hashlib.sha256(b"").digest()
    if len(digests) == 1:
        return digests[0]
    split = 1 << (len(digests) - 1).bit_length() - 1
    halves = merkle_root(digests[:split]) + merkle_root(digests[split:])
    return hashlib.sha256(b"\x01" + halves).digest()


def main() -> None:
    """Run and print the log that docs/runs keeps."""
    kills, seed = int(sys.argv[1]), int(sys.argv[2])
    commit = (
        subprocess.run(
            ("git", "rev-parse", "--verify", "-q", "HEAD"),
            cwd=ROOT,
            capture_output=True,
            check=False,
        )
        .stdout.decode()
        .strip()
    )
    print(f"command  python -m tests.store.kills {kills} {seed}")
    print(f"start    {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", flush=True)
    with tempfile.TemporaryDirectory() as base:
        outcome = kill_repeatedly(Path(base), kills, seed)
    print(f"end      {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}")
    print(f"commit   {commit or 'before the first'}")
    print(f"seed     {seed}")
    print(f"python   {sys.version.split()[0]}, SQLite {sqlite3.sqlite_version}")
    for name, count in sorted(outcome.counts.items()):
        print(f"         {name}: {count}")
    print("result   ok: after every kill each acknowledged intent had its leaf and its cast line,")
    print("         no grant was spent twice or without its leaf, each cast verified up to its")
    print("         last head, and the tree had no gap")


if __name__ == "__main__":
    main()
