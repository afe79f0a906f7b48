"""Catalogs of live targets: what decisions rest on, read anew for each session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.edge.upstream import Upstream, query
from gateway.errors import TargetUnavailable
from gateway.sql.catalog import Catalog
from gateway.sql.catalog_queries import CATALOG, build_catalog


async def load_catalog(upstream: Upstream, target: str, overrides: Mapping[str, str]) -> Catalog:
    """Read a target's catalog in one statement, under the search path that the guard pins.

    Args:
        upstream: the login to read with; the reader's suffices.
        target: the target's name in the configuration.
        overrides: the configuration's classification, see ``gateway.core.phi.classify``.

    Raises:
        TargetUnavailable: the target does not answer, or its answer cannot be read.
    """
    rows = [_pair(row) for row in await query(upstream, CATALOG)]
    catalog = build_catalog(rows, target, upstream.database, overrides)
    return replace(catalog, search_path=tuple(upstream.search_path))


def _pair(row: tuple[str | None, ...]) -> tuple[str, str]:
    if len(row) != 2 or row[0] is None or row[1] is None:
        raise TargetUnavailable(
            "the target's catalog cannot be read", "See the target's log", rule="target.catalog"
        )
    return row[0], row[1]
