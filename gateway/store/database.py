"""The file, who may use it, and a connection to it.

One gateway uses a SQLite store: an exclusive lock on ``store.lock`` is held as
long as it is open, and the system drops it when the process dies.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway.errors import RecorderFault
from gateway.store.schema import PRAGMAS
from recorder.errors import RecorderError

FILE: Final = "store.sqlite3"
LOCK: Final = "store.lock"

BEGIN: Final = "tollhouse_begin"
"""Execution option: the statement that begins a connection's transactions; None for none."""


@contextmanager
def faults(what: str) -> Iterator[None]:
    """Turn whatever the database, the disk or a malformed leaf raises into a RecorderFault.

    Args:
        what: the attempt, for the message, as ``be opened``.
    """
    try:
        yield
    except RecorderError as error:
        raise RecorderFault(f"The record cannot {what}: {error}", rule="store.leaf") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise RecorderFault(
            f"The store cannot {what}",
            "See that its disk has room and answers, and that no other program writes to it",
            rule="store.database",
        ) from error


def prepare(folder: Path) -> int:
    """Make the folder and the file for their owner only, and take the lock.

    Returns:
        The descriptor that holds the lock until it is closed.

    Raises:
        RecorderFault: others may enter the folder, another gateway uses the
            store, or the disk refuses.
    """
    with faults("be opened"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if stat.S_IMODE(folder.stat().st_mode) & 0o077:
            raise RecorderFault(
                f"Others may enter the store's folder {folder}",
                "Close it with `chmod 700` and see who has been there",
                rule="store.folder",
            )
        lock = _open_private(folder / LOCK)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(_open_private(folder / FILE))
        _sync(folder)
    except BlockingIOError as error:
        os.close(lock)
        raise RecorderFault(
            f"Another gateway uses the store in {folder}",
            "Stop it, or give this one a folder of its own; several gateways cannot share SQLite",
            rule="store.lock",
        ) from error
    except (OSError, RecorderFault):
        os.close(lock)
        with faults("be opened"):
            raise
    return lock


def connect(folder: Path) -> AsyncEngine:
    """An engine whose every connection is set as `schema.PRAGMAS` says.

    Statements are never logged with their values, which may be PHI.
    """
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{folder.absolute() / FILE}", hide_parameters=True
    )
    event.listen(engine.sync_engine, "connect", _configure)
    event.listen(engine.sync_engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    # The driver's own idea of when a transaction begins is switched off; see _begin.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin(connection: Connection) -> None:
    statement = connection.get_execution_options().get(BEGIN, "BEGIN")
    if statement is not None:
        connection.exec_driver_sql(statement)


def _open_private(path: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
        os.close(descriptor)
        raise RecorderFault(
            f"Others may read {path}",
            "Close it with `chmod 600` and see who has been there",
            rule="store.folder",
        )
    return descriptor


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
