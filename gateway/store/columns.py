"""Values that several tables hold: identities and times, as text and back.

A row becomes an object only after its code held (`seal.RowMac`), so reading it
back cannot fail but by a fault of ours.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult

from gateway.core.identity import Identity
from gateway.store.seal import Row
from recorder.leaf import time_text


def identity_text(identity: Identity) -> str:
    """An identity as one JSON object, members named like its attributes."""
    members = {
        "name": identity.name,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "kind": identity.kind,
        "roles": identity.roles,
        "targets": identity.targets,
        "groups": identity.groups,
        "accountable": identity.accountable,
        "annotations": dict(identity.annotations),
    }
    return json.dumps(members, sort_keys=True)


def identity_from(text: str) -> Identity:
    """The identity of `identity_text`."""
    members = json.loads(text)
    for name in ("roles", "targets", "groups", "accountable"):
        members[name] = tuple(members[name])
    return Identity(**members)


def optional_text(time: datetime | None) -> str | None:
    """A time as the tables hold it, or None."""
    return None if time is None else time_text(time)


def optional_time(text: str | None) -> datetime | None:
    """The time of `optional_text`, aware UTC."""
    return None if text is None else datetime.fromisoformat(text)


def all_rows(result: CursorResult[Any]) -> list[Row]:
    """Every row of a query, by column name."""
    return [{str(name): value for name, value in row.items()} for row in result.mappings()]


def one_row(result: CursorResult[Any]) -> Row | None:
    """The row of a query that has at most one."""
    return next(iter(all_rows(result)), None)
