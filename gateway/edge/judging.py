"""Judging a line: parsed in a worker, decided by the policies, bound to what was used."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Literal, Protocol
from weakref import WeakValueDictionary

import rfc8785

from gateway.config import GatewayConfig, Target
from gateway.core.action import Action, Facts, ObjectKind
from gateway.core.approval import BoundFields
from gateway.core.events import Judgement, Line
from gateway.core.identity import Identity
from gateway.core.plan import Parsed
from gateway.core.policy import Policies
from gateway.edge.workers import Workers
from gateway.errors import Denied
from gateway.sql.catalog import Catalog
from gateway.sql.limits import SqlLimits

MAX_COMPLETED = 500
"""Relations that completion knows at most; each costs a decision."""


class Catalogs(Protocol):
    """Where a target's catalog comes from: a live server, or DDL for ``explain``."""

    async def current(self, target: str) -> Catalog:
        """The catalog as it is now.

        Raises:
            TargetUnavailable: the target cannot be asked.
        """
        ...


class Judges:
    """Turns lines into judgements.

    Args:
        config: targets and limits.
        policies: the ones in force.
        workers: where parsing happens.
        catalogs: what the targets hold.
    """

    def __init__(
        self, config: GatewayConfig, policies: Policies, workers: Workers, catalogs: Catalogs
    ) -> None:
        self._policies = policies
        self._workers = workers
        self._catalogs = catalogs
        self._targets = {target.name: target for target in config.target}
        self._limits = sql_limits(config)
        # One line of an identity at a time: whoever floods the workers leaves one to the others.
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._masking = {
            name: masking_hash(config, target) for name, target in self._targets.items()
        }

    async def judge(
        self, line: Line, target_name: str, identity: Identity, pinned: str | None = None
    ) -> Judgement:
        """Decide one line whole; nothing of it has run.

        Args:
            line: what was typed.
            target_name: a configured target.
            identity: who typed it.
            pinned: the login whose transaction is open, or None.

        Raises:
            BadCommand: it cannot be read.
            Denied: the SQL gate refuses it, or it needs a login that is not configured.
            TargetUnavailable: the catalog cannot be read.
            GatewayFault: no worker can be had.
        """
        target = self._targets[target_name]
        catalog = await self._catalogs.current(target_name)
        async with self._turns.setdefault(identity.id, asyncio.Lock()):
            parsed = await self._parse(line, target, catalog)
        verdict = self._policies.decide(
            identity, target_name, target.labels, parsed.actions, database=catalog.database
        )
        login, user = _login(target, parsed, pinned)
        if user is None and verdict.verdict != "deny":
            raise Denied(
                f"{target_name} is configured for reading only",
                "Ask the gateway's operator for a writer login on this target",
                rule="target.read-only",
            )
        fields = BoundFields(
            text=line.text,
            target=target_name,
            database=catalog.database,
            upstream_role=user or "",
            identity_id=identity.id,
            policy_version=self._policies.version,
            masking=self._masking[target_name],
            catalog=catalog.fingerprint,
        )
        return Judgement(line, parsed, verdict, fields, login)

    async def readable(self, target_name: str, identity: Identity) -> dict[str, tuple[str, ...]]:
        """What an identity may read without asking, or after: tables to columns, for completion.

        Raises:
            TargetUnavailable: the catalog cannot be read.
        """
        target = self._targets[target_name]
        catalog = await self._catalogs.current(target_name)
        found: dict[str, tuple[str, ...]] = {}
        for relation in catalog.relations[:MAX_COMPLETED]:
            if relation.kind not in ("table", "view", "matview", "foreign"):
                continue
            kind: ObjectKind = "table" if relation.kind == "table" else "view"
            name = f"{catalog.database}.{relation.schema}.{relation.name}"
            phi = any(column.masked for column in relation.columns)
            action = Action("select", kind, name, Facts(phi=phi, form="prompt"))
            verdict = self._policies.decide(
                identity, target_name, target.labels, [action], database=catalog.database
            )
            if verdict.verdict != "deny":
                found[relation.name] = tuple(column.name for column in relation.columns)
        return found

    async def _parse(self, line: Line, target: Target, catalog: Catalog) -> Parsed:
        timeout_ms = int(target.statement_timeout.total_seconds() * 1000)
        limits = replace(self._limits, statement_timeout_ms=timeout_ms)
        parts = [
            await self._workers.parse(
                text, form=line.form, target=target.name, catalog=catalog, limits=limits
            )
            for text in line.parts or (line.text,)
        ]
        if len(parts) == 1:
            return parts[0]
        return Parsed(
            units=tuple(unit for part in parts for unit in part.units),
            actions=tuple(action for part in parts for action in part.actions),
            shown="\n".join(part.shown for part in parts),
            writes=any(part.writes for part in parts),
            catalog=catalog.fingerprint,
        )


def _login(
    target: Target, parsed: Parsed, pinned: str | None
) -> tuple[Literal["reader", "writer"], str | None]:
    if pinned == "reader" and parsed.writes:
        raise Denied(
            "This transaction was opened for reading",
            "COMMIT it, then send the change by itself or as a script",
            rule="transaction.reader",
        )
    if not parsed.writes and pinned != "writer":
        return "reader", target.reader.user
    return "writer", target.writer.user if target.writer is not None else None


def sql_limits(config: GatewayConfig) -> SqlLimits:
    """The SQL gate's limits as the configuration sets them."""
    limits = config.limits
    return SqlLimits(
        statement_bytes=limits.statement_bytes,
        script_bytes=limits.script_bytes,
        statements=limits.statements,
        output_columns=limits.output_columns,
    )


def masking_hash(config: GatewayConfig, target: Target) -> str:
    """What a grant is bound to of the masking: hex SHA-256 over its configuration."""
    classified = rfc8785.dumps(dict(target.classification))
    return hashlib.sha256(config.masking.patterns.encode() + b"\n" + classified).hexdigest()
