"""Actions as Cedar requests: the principal, the object and its parents, the facts."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cedarpy

from gateway.core.action import Action, ObjectKind
from gateway.core.identity import Identity
from gateway.core.policy_source import SCHEMA

Uid = dict[str, str]

_TYPES: Final[dict[ObjectKind, str]] = {
    "table": "Table",
    "view": "View",
    "sequence": "Sequence",
    "function": "Function",
    "schema": "Schema",
    "database": "Database",
    "role": "RoleObject",
    "setting": "Setting",
    "type": "Type",
    "transaction": "Transaction",
    "other": "Other",
}


@dataclass(frozen=True, slots=True)
class _Object:
    kind: ObjectKind
    name: str
    schema: str
    database: str
    placed: bool = True


@dataclass(frozen=True, slots=True)
class Requests:
    """What is asked of Cedar about one line.

    Attributes:
        each: one request for each action, in order.
        placed: whether the action's object could be placed under its schema; where
            not, a rule about the schema would miss it, so nothing may allow it.
        entities: the principal, the objects and their parents.
    """

    each: list[dict[str, Any]]
    placed: list[bool]
    entities: cedarpy.Entities


def requests(
    identity: Identity,
    target: str,
    labels: Collection[str],
    database: str,
    actions: Sequence[Action],
) -> Requests:
    """Say a line in Cedar's terms.

    Raises:
        ValueError: Cedar does not take the entities.
    """
    place = _Place(target, sorted(labels))
    objects = [_object(action, database) for action in actions]
    each = [
        {
            "principal": _uid("Identity", identity.name),
            "action": _uid("Action", action.verb),
            "resource": place.add(found),
            "context": _context(action),
        }
        for action, found in zip(actions, objects, strict=True)
    ]
    entities = json.dumps([*_principal(identity), *place.entities.values()])
    placed = [found.placed for found in objects]
    return Requests(each, placed, cedarpy.Entities.from_json_str(entities, SCHEMA))


def _uid(type_name: str, id_: str) -> Uid:
    return {"type": type_name, "id": id_}


def _principal(identity: Identity) -> list[dict[str, Any]]:
    roles = [_uid("Role", role) for role in dict.fromkeys(identity.roles)]
    attributes = {
        "name": identity.name,
        "kind": identity.kind,
        "issuer": identity.issuer,
        "groups": sorted(set(identity.groups)),
    }
    person = {"uid": _uid("Identity", identity.name), "attrs": attributes, "parents": roles}
    return [person, *({"uid": role, "attrs": {}, "parents": []} for role in roles)]


def _context(action: Action) -> dict[str, Any]:
    facts = action.facts
    return {
        "has_where": facts.has_where,
        "phi": facts.phi,
        "phi_influences": sorted(facts.phi_influences),
        "phi_to_plain": facts.phi_to_plain,
        "ddl": facts.ddl,
        "recursive": facts.recursive,
        "wildcard": facts.wildcard,
        "setting_safe": facts.setting_safe,
        "columns": sorted(set(facts.columns)),
        "phi_columns": sorted(set(facts.phi_columns)),
        "statements": facts.statements,
        "form": facts.form,
    }


def _object(action: Action, database: str) -> _Object:
    """The parts of an object's canonical name (gateway/core/action.py, "Action").

    Names are joined by dots and not quoted, so a part that has a dot of its own
    leaves too many parts: such an object is not placed, never guessed at.
    """
    kind, name = action.kind, action.name
    if kind in ("table", "view", "sequence"):
        first, rest = database, name.removeprefix(f"{database}.")
        if not database or rest == name:
            first, _, rest = name.partition(".")
        schema, _, own = rest.partition(".")
        placed = bool(first and schema and own) and "." not in own
        return _Object(kind, own if placed else name, schema if placed else "", first, placed)
    if kind in ("function", "type"):
        head, _, arguments = name.partition("(")
        schema, dot, own = head.partition(".")
        placed = "." not in own and "(" not in arguments and bool(dot or kind == "type")
        if not placed or not dot:
            return _Object(kind, head, "", database, placed)
        return _Object(kind, own, schema, database, bool(schema and own))
    if kind == "schema":
        return _Object(kind, name, name, database)
    return _Object(kind, name, "", name if kind == "database" else "")


class _Place:
    """The target and what lies in it, each once."""

    def __init__(self, target: str, labels: list[str]) -> None:
        self._labels = labels
        self._target = _uid("Target", target)
        self.entities: dict[tuple[str, str], dict[str, Any]] = {}
        self._put(self._target, target, "", "", [])

    def add(self, found: _Object) -> Uid:
        """The object's uid, its parents put beside it."""
        target = self._target["id"]
        if found.kind == "database":
            return self._database(found.name)
        if found.kind == "schema":
            return self._schema(found.name, found.database)
        if found.schema:
            uid = _uid(_TYPES[found.kind], f"{target}/{found.schema}.{found.name}")
            parent = self._schema(found.schema, found.database)
        else:
            uid = _uid(_TYPES[found.kind], f"{target}/{found.name}")
            parent = self._target
        return self._put(uid, found.name, found.schema, found.database, [parent])

    def _database(self, name: str) -> Uid:
        uid = _uid("Database", f"{self._target['id']}/{name}")
        return self._put(uid, name, "", name, [self._target])

    def _schema(self, name: str, database: str) -> Uid:
        uid = _uid("Schema", f"{self._target['id']}/{name}")
        parents = [self._database(database)] if database else []
        return self._put(uid, name, name, database, [*parents, self._target])

    def _put(self, uid: Uid, name: str, schema: str, database: str, parents: list[Uid]) -> Uid:
        key = uid["type"], uid["id"]
        known = self.entities.get(key)
        if known is not None:
            # Reached again with its database known: it has both sets of parents.
            known["parents"] += [each for each in parents if each not in known["parents"]]
            return uid
        attributes = {"name": name, "schema": schema, "database": database, "labels": self._labels}
        self.entities[key] = {"uid": uid, "attrs": attributes, "parents": parents}
        return uid
