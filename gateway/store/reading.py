"""Reading the store beside a running gateway: lists for an operator, nothing changed.

Opened read-only with SQLite's own library, so that neither the gateway's lock nor
its keys are needed. What is read here is for people; ``verify`` is the proof.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from gateway.errors import TargetUnavailable

NAME = "store.sqlite3"


def sessions(folder: Path, limit: int) -> list[dict[str, Any]]:
    """The newest sessions first.

    Args:
        folder: ``server.state_dir``.
        limit: at most so many.

    Raises:
        TargetUnavailable: there is no store that can be read.
    """
    columns = 'id, state, identity_name, target, client, opened, closed, reason, "cast"'
    with _reading(folder) as connection:
        rows = connection.execute(
            f"SELECT {columns} FROM session ORDER BY opened DESC, id LIMIT ?",  # noqa: S608
            (limit,),
        )
        return [dict(row) for row in rows]


def leaves(folder: Path, session: str) -> list[dict[str, Any]]:
    """What the ledger says about one session, in order; an erased body is None.

    Raises:
        TargetUnavailable: there is no store that can be read.
    """
    with _reading(folder) as connection:
        rows = connection.execute(
            "SELECT idx, time, type, body FROM leaf WHERE session = ? ORDER BY idx", (session,)
        )
        return [_leaf(row) for row in rows]


def _leaf(row: Mapping[str, Any]) -> dict[str, Any]:
    body = row["body"]
    return {
        "index": row["idx"],
        "time": row["time"],
        "type": row["type"],
        "body": None if body is None else json.loads(body),
    }


@contextmanager
def _reading(folder: Path) -> Iterator[sqlite3.Connection]:
    path = folder / NAME
    if not path.is_file():
        raise _unreadable(path)
    try:
        with closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        ) as connection:
            connection.row_factory = sqlite3.Row
            yield connection
    except sqlite3.Error:
        raise _unreadable(path) from None


def _unreadable(path: Path) -> TargetUnavailable:
    return TargetUnavailable(
        f"There is no store to read at {path}",
        "See server.state_dir, and run as the gateway's user",
        rule="store.read",
    )
