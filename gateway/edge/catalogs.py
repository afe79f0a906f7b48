"""Catalogs of live targets: kept, and checked by fingerprint before each decision.

One cheap query a decision; the whole is read anew only after a change.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace

from gateway.edge import upstream as up
from gateway.edge.upstream import Connection, Upstream
from gateway.errors import TargetUnavailable
from gateway.sql.catalog import Catalog
from gateway.sql.catalog_queries import CATALOG, FINGERPRINT, build_catalog


class CatalogReader:
    """Keeps one connection of the reader login, and the catalog that it read last.

    Args:
        upstream: the target, with its reader login.
        target: its name in the configuration.
        overrides: the configuration's classification.
    """

    def __init__(self, upstream: Upstream, target: str, overrides: Mapping[str, str]) -> None:
        self._upstream = upstream
        self._target = target
        self._overrides = dict(overrides)
        self._connection: Connection | None = None
        self._catalog: Catalog | None = None
        self._lock = asyncio.Lock()

    async def current(self) -> Catalog:
        """The catalog as the server's own fingerprint says it is now.

        Raises:
            TargetUnavailable: the server cannot be asked.
        """
        async with self._lock:
            rows = await self._ask(FINGERPRINT)
            fingerprint = rows[0][0] if len(rows) == 1 else None
            if self._catalog is None or self._catalog.fingerprint != fingerprint:
                self._catalog = await self._read()
            return self._catalog

    async def close(self) -> None:
        """Let go of the connection; the next question makes a new one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _read(self) -> Catalog:
        rows = [_pair(row) for row in await self._ask(CATALOG)]
        found = build_catalog(rows, self._target, self._upstream.database, self._overrides)
        return replace(found, search_path=tuple(self._upstream.search_path))

    async def _ask(self, sql: str) -> list[tuple[str | None, ...]]:
        """Ask on the kept connection; one that went away since is replaced once."""
        if self._connection is not None:
            try:
                return await self._asked(self._connection, sql)
            except TargetUnavailable:
                await self.close()
        self._connection = await up.connect(self._upstream)
        return await self._asked(self._connection, sql)

    async def _asked(self, connection: Connection, sql: str) -> list[tuple[str | None, ...]]:
        try:
            async with asyncio.timeout(self._upstream.timeout_s):
                return await up.ask(connection, sql)
        except (OSError, TimeoutError) as error:
            await self.close()
            raise TargetUnavailable(
                "the target does not answer the gateway's own question",
                "Check that the server runs",
                rule="target.unreachable",
            ) from error
        except BaseException:
            # Refused, or cancelled because the client left: the rest of this answer is still
            # to come, and the next question must not take it for its own.
            self._connection = None
            connection.writer.transport.abort()
            raise


def _pair(row: tuple[str | None, ...]) -> tuple[str, str]:
    if len(row) != 2 or row[0] is None or row[1] is None:
        raise TargetUnavailable(
            "the target's catalog cannot be read", "See the target's log", rule="target.catalog"
        )
    return row[0], row[1]
