"""Lineage: which output columns derive from PHI, and where PHI steers a statement.

Read over libpg_query's own tree, the grammar that also decides (docs/decisions/
0005-lineage-on-libpg-query.md). Bottom up: ``scopes`` (taints and names), ``labels``
(names of output columns), ``influences`` (what is noted), ``expressions``, ``sources``
(FROM), ``queries``, ``changes`` (INSERT …), ``statements`` (``trace`` itself).
"""

from __future__ import annotations

from gateway.sql.lineage.scopes import Untraceable
from gateway.sql.lineage.statements import Trace, derivation, shape_of, trace

__all__ = ["Trace", "Untraceable", "derivation", "shape_of", "trace"]
