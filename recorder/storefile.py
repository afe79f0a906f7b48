"""Reads ``store.sqlite3`` as an auditor may: read-only, one snapshot, standard library.

Works beside a running gateway (WAL) and after a crash. The tables belong to the
gateway and are fixed in docs/formats.md, "Store".
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from recorder.errors import RecorderError

STORE_FILE: Final = "store.sqlite3"

_TIMEOUT_S: Final = 10.0


class StoreUnreadable(RecorderError):
    """The database is missing, damaged or of another form; nothing can be said."""


@dataclass(frozen=True, slots=True)
class LeafRow:
    """One row of ``leaf``, its types checked and nothing else.

    Attributes:
        index: 0-based.
        time: text as written into the envelope.
        type: the leaf's type.
        session: may be empty.
        body: canonical JSON; None once erased.
        salt: None once erased.
        body_hash: what the envelope holds.
    """

    index: int
    time: str
    type: str
    session: str
    body: bytes | None
    salt: bytes | None
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class CheckpointRow:
    """One row of ``checkpoint``, its types checked and nothing else."""

    size: int
    note: str
    sshsig: str | None


class Snapshot:
    """The ledger at one moment, however long the reading takes."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def leaves(self) -> Iterator[LeafRow]:
        """All leaves by index. Raises StoreUnreadable if the database fails."""
        query = "SELECT idx, time, type, session, body, salt, body_hash FROM leaf ORDER BY idx"
        for row in self._rows(query):
            match row:
                case (
                    int() as index,
                    str() as time,
                    str() as type_,
                    (str() | None) as session,
                    (bytes() | None) as body,
                    (bytes() | None) as salt,
                    bytes() as hashed,
                ):
                    yield LeafRow(index, time, type_, session or "", body, salt, hashed)
                case _:
                    raise StoreUnreadable("a row of the table leaf has values of other types")

    def checkpoints(self) -> Iterator[CheckpointRow]:
        """All checkpoints by size. Raises StoreUnreadable if the database fails."""
        for row in self._rows("SELECT size, note, sshsig FROM checkpoint ORDER BY size"):
            match row:
                case (int() as size, str() as note, (str() | None) as sshsig):
                    yield CheckpointRow(size, note, sshsig)
                case _:
                    reason = "a row of the table checkpoint has values of other types"
                    raise StoreUnreadable(reason)

    def _rows(self, query: str) -> Iterator[tuple[object, ...]]:
        try:
            # No ``yield from``: it would close the cursor after its connection.
            for row in self._connection.execute(query):  # noqa: UP028
                yield row
        except sqlite3.Error as error:
            raise StoreUnreadable(f"the store cannot be read: {_name(error)}") from error


@contextlib.contextmanager
def open_store(folder: Path) -> Iterator[Snapshot]:
    """Open the store of a state folder for reading, in one transaction.

    Nothing in the database is changed. Where SQLite cannot share the write-ahead
    log (a folder that the reader may not write), a private copy is read.

    Raises:
        StoreUnreadable: it is missing, damaged or of another form.
    """
    path = folder / STORE_FILE
    if not path.is_file():
        raise StoreUnreadable(f"there is no {STORE_FILE} in this folder")
    with contextlib.ExitStack() as held:
        try:
            connection = _begin(path, "ro", held)
        except sqlite3.OperationalError:
            connection = _begin_copy(path, held)
        except sqlite3.Error as error:
            raise StoreUnreadable(f"the store cannot be read: {_name(error)}") from error
        yield Snapshot(connection)


def _begin(path: Path, mode: str, held: contextlib.ExitStack) -> sqlite3.Connection:
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=_TIMEOUT_S,
        isolation_level=None,
    )
    held.callback(connection.close)
    # The file may have been made by someone hostile.
    connection.execute("PRAGMA trusted_schema = 0")
    connection.execute("BEGIN")
    # The snapshot begins with the first read.
    connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    return connection


def _begin_copy(path: Path, held: contextlib.ExitStack) -> sqlite3.Connection:
    try:
        private = Path(held.enter_context(tempfile.TemporaryDirectory()), STORE_FILE)
        shutil.copyfile(path, private)
        log = path.with_name(f"{path.name}-wal")
        if log.exists():
            shutil.copyfile(log, private.with_name(log.name))
        return _begin(private, "rw", held)
    except sqlite3.Error as error:
        raise StoreUnreadable(f"the store cannot be read: {_name(error)}") from error


def _name(error: sqlite3.Error) -> str:
    # SQLite's message may quote the schema; the code's name does not.
    return getattr(error, "sqlite_errorname", type(error).__name__)
