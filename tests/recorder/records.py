"""Records to verify: a cast as a session leaves it, and a state folder around casts."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from recorder.canonical import canonical
from recorder.leaf import body_hash, envelope_from, time_text
from recorder.merkle import Frontier, leaf_hash
from recorder.note import (
    Checkpoint,
    VerificationKey,
    checkpoint_text,
    format_vkey,
    public_key,
    sign_checkpoint,
)
from recorder.sshsig import sign_sshsig
from recorder.writer import CastWriter

STARTED = datetime(2026, 7, 1, 8, 0, tzinfo=UTC)
GENESIS = bytes(range(32))
SEED = bytes(range(32, 64))
LOG_SEED = bytes(range(64, 96))
KEY = VerificationKey("log.example/clinic", public_key(LOG_SEED))
VKEY = format_vkey(KEY)

SCHEMA = """
CREATE TABLE leaf (
    idx INTEGER PRIMARY KEY, time TEXT NOT NULL, type TEXT NOT NULL, session TEXT NOT NULL,
    body BLOB, salt BLOB, body_hash BLOB NOT NULL
);
CREATE TABLE checkpoint (size INTEGER PRIMARY KEY, note TEXT NOT NULL, sshsig TEXT);
"""


def new_writer(folder: Path, session: str = "s1") -> CastWriter:
    return CastWriter.create(folder, session, started=STARTED, genesis=GENESIS, seed=SEED)


def record(writer: CastWriter, commands: int = 3) -> None:
    """What a few commands leave: intent, verdict, output, a head after each."""
    for number in range(commands):
        writer.write("i", f"select {number}\r\n", number)
        writer.write("m", '{"verdict":"allow"}', number)
        writer.write("o", f" [SSN] Müller 😀 {number}\r\n", number + 0.25)
        writer.write("o", "(1 row)\r\n", number + 0.5)
        writer.head()
        writer.sync()


def closed_cast(folder: Path, session: str = "s1", commands: int = 3) -> CastWriter:
    writer = new_writer(folder, session)
    record(writer, commands)
    writer.write("r", "100x30", 60)
    writer.close()
    return writer


class StateFolder:
    """A gateway's state, as far as the verifier reads it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.casts = folder / "casts"
        self.casts.mkdir(parents=True)
        self.tree = Frontier()
        self._time = STARTED
        (folder / "log.vkey").write_text(VKEY + "\n")
        with self.database() as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(SCHEMA)

    @contextmanager
    def database(self) -> Iterator[sqlite3.Connection]:
        database = sqlite3.connect(self.folder / "store.sqlite3")
        try:
            yield database
            database.commit()
        finally:
            database.close()

    def append(self, type_: str, session: str, body: dict[str, object]) -> None:
        self.append_raw(type_, session, canonical(body))

    def append_raw(self, type_: str, session: str, body: bytes) -> None:
        self._time += timedelta(microseconds=250)
        time, salt = time_text(self._time), os.urandom(32)
        hashed = body_hash(salt, body)
        row = (self.tree.size, time, type_, session, body, salt, hashed)
        with self.database() as database:
            database.execute("INSERT INTO leaf VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        self.tree.append(leaf_hash(envelope_from(type_, time, session, hashed)))

    def sign(self) -> None:
        checkpoint = Checkpoint(KEY.name, self.tree.size, self.tree.root())
        note = sign_checkpoint(checkpoint, LOG_SEED)
        armor = sign_sshsig(checkpoint_text(checkpoint), LOG_SEED)
        with self.database() as database:
            row = (checkpoint.size, note, armor)
            database.execute("INSERT INTO checkpoint VALUES (?, ?, ?)", row)

    def execute(self, statement: str, *values: object) -> None:
        with self.database() as database:
            database.execute(statement, values)

    def open_session(self, session: str) -> CastWriter:
        body: dict[str, object] = {"cast": f"{session}.cast", "genesis": GENESIS.hex()}
        self.append("session.open", session, body)
        return new_writer(self.casts, session)

    def close_session(self, session: str, writer: CastWriter) -> None:
        body: dict[str, object] = {
            "cast_root": writer.root,
            "lines": writer.lines,
            "reason": "client left",
        }
        self.append("session.close", session, body)

    def whole_session(self, session: str, commands: int = 3) -> CastWriter:
        writer = self.open_session(session)
        record(writer, commands)
        writer.close()
        self.close_session(session, writer)
        self.sign()
        return writer


def state_with_sessions(folder: Path) -> StateFolder:
    """Two whole sessions, everything signed."""
    state = StateFolder(folder)
    state.append("gateway.started", "", {"version": "0.1.0", "sandbox": "confined"})
    state.sign()
    state.whole_session("s1")
    state.whole_session("s2", commands=1)
    return state
