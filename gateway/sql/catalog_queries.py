"""The SQL by which the gateway reads a catalog itself, and the catalog made of its rows.

Both statements name everything in ``pg_catalog`` by its schema, need no privilege
beyond CONNECT, and run on PostgreSQL 15, 16 and 18. They must run under the search
path of the Catalog that they make (``pg_catalog`` first), because view definitions
are printed relative to it.

Temporary objects of other sessions are left out. Those of the own session are in:
they could shadow a name, so a connection that made some has another fingerprint
than the catalog that its statements were decided on, and the guard refuses.

Operators are written only where ``pg_catalog`` has one for exactly these types (an
untyped literal counts as the other side's type), so that no operator of a user's
can capture them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from gateway.core.phi import classify
from gateway.errors import TargetUnavailable
from gateway.sql.catalog import Catalog, Column, Function, Relation, RelationKind
from gateway.sql.views import settle

# FirstNormalObjectId (access/transam.h): what initdb made is below it. The second
# half keeps what a superuser put into a system schema in view.
_OWN = """
    (n.nspname NOT IN ('pg_catalog', 'information_schema') OR {oid}::pg_catalog.int8 >= 16384)
    AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_toast')
    AND (NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_temp_')
         OR n.oid = pg_catalog.pg_my_temp_schema())"""

_SCHEMA = """CASE WHEN n.oid = pg_catalog.pg_my_temp_schema() THEN 'pg_temp' ELSE n.nspname END"""


def _own(oid: str) -> str:
    return _OWN.format(oid=oid)


# Relations whose writing runs users' functions or operators: (oid of the relation, class and
# oid of what is run). pg_depend names nothing that initdb made, only what users added.
_EFFECTS = """
    SELECT e.relid, d.refclassid, d.refobjid
      FROM (SELECT a.adrelid AS relid, 'pg_catalog.pg_attrdef'::pg_catalog.regclass AS class,
                   a.oid FROM pg_catalog.pg_attrdef a
            UNION ALL SELECT k.conrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
                        FROM pg_catalog.pg_constraint k WHERE k.conrelid <> '0'
            UNION ALL SELECT x.indrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, x.indexrelid
                        FROM pg_catalog.pg_index x
            UNION ALL SELECT p.polrelid, 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid
                        FROM pg_catalog.pg_policy p
            UNION ALL SELECT t.partrelid, 'pg_catalog.pg_class'::pg_catalog.regclass, t.partrelid
                        FROM pg_catalog.pg_partitioned_table t
            UNION ALL SELECT a.attrelid, 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid
                        FROM pg_catalog.pg_attribute a
                        JOIN pg_catalog.pg_constraint k ON k.contypid = a.atttypid
                       WHERE k.contypid <> '0') AS e
      JOIN pg_catalog.pg_depend d ON d.objid = e.oid AND d.classid = e.class::pg_catalog.oid
     WHERE d.refobjid::pg_catalog.int8 >= 16384
       AND d.refclassid IN ('pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid,
                            'pg_catalog.pg_operator'::pg_catalog.regclass::pg_catalog.oid)"""

# Writing the first relation may write the second: a foreign key that cascades, or a view.
_REACHES = """
    SELECT k.confrelid AS written, k.conrelid AS reached FROM pg_catalog.pg_constraint k
     WHERE k.contype = 'f'
       AND (k.confdeltype IN ('c', 'n', 'd') OR k.confupdtype IN ('c', 'n', 'd'))
    UNION
    SELECT r.ev_class, d.refobjid FROM pg_catalog.pg_rewrite r
      JOIN pg_catalog.pg_depend d ON d.objid = r.oid
       AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass::pg_catalog.oid
       AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
     WHERE r.ev_type = '1' AND r.ev_class <> d.refobjid
       AND r.ev_class::pg_catalog.int8 >= 16384"""

_LINES = f"""
    SELECT ROW('class', c.oid, {_SCHEMA}, c.relname, c.relkind)::pg_catalog.text AS line
      FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind NOT IN ('i', 'I', 't') AND {_own("c.oid")}
    UNION ALL
    SELECT ROW('attribute', a.attrelid, a.attnum, a.attname, a.attisdropped, a.attgenerated,
               pg_catalog.format_type(a.atttypid, a.atttypmod),
               pg_catalog.pg_get_expr(d.adbin, d.adrelid),
               pg_catalog.col_description(a.attrelid, a.attnum))::pg_catalog.text
      FROM pg_catalog.pg_attribute a
      JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      LEFT JOIN pg_catalog.pg_attrdef d
        ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''
     WHERE a.attnum > 0 AND c.relkind NOT IN ('i', 'I', 't') AND {_own("c.oid")}
    UNION ALL
    SELECT ROW('rewrite', r.ev_class, r.rulename, r.ev_type, r.is_instead, r.ev_enabled,
               pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
                   r.ev_action::pg_catalog.text || pg_catalog.chr(10)
                   || COALESCE(r.ev_qual::pg_catalog.text, ''), 'UTF8')), 'hex'))::pg_catalog.text
      FROM pg_catalog.pg_rewrite r
      JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE {_own("c.oid")}
    UNION ALL
    SELECT ROW('trigger', t.tgrelid, t.tgname, t.tgfoid, t.tgtype, t.tgenabled)::pg_catalog.text
      FROM pg_catalog.pg_trigger t WHERE NOT t.tgisinternal
    UNION ALL
    SELECT ROW('effect', e.relid, e.refclassid, e.refobjid)::pg_catalog.text
      FROM ({_EFFECTS}) AS e
    UNION ALL
    SELECT ROW('reach', r.written, r.reached)::pg_catalog.text FROM ({_REACHES}) AS r
    UNION ALL
    SELECT ROW('inherits', i.inhrelid, i.inhparent, i.inhseqno)::pg_catalog.text
      FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind NOT IN ('i', 'I') AND {_own("c.oid")}
    UNION ALL
    SELECT ROW('proc', p.oid, {_SCHEMA}, p.proname, p.prokind, p.prosecdef, p.provolatile,
               p.proargtypes, p.prorettype, p.prolang, p.proconfig,
               pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(p.prosrc
                   || pg_catalog.chr(10) || COALESCE(p.probin, '')
                   || pg_catalog.chr(10) || COALESCE(p.prosqlbody::pg_catalog.text, ''),
               'UTF8')), 'hex'))::pg_catalog.text
      FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
     WHERE {_own("p.oid")}
    UNION ALL
    SELECT ROW('aggregate', g.aggfnoid::pg_catalog.oid, g.aggtransfn::pg_catalog.oid,
               g.aggfinalfn::pg_catalog.oid, g.agginitval)::pg_catalog.text
      FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid::pg_catalog.oid::pg_catalog.int8 >= 16384
    UNION ALL
    SELECT ROW('operator', o.oid, {_SCHEMA}, o.oprname, o.oprleft, o.oprright,
               o.oprcode::pg_catalog.oid)::pg_catalog.text
      FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
     WHERE {_own("o.oid")}
    UNION ALL
    SELECT ROW('cast', c.oid, c.castsource, c.casttarget, c.castfunc,
               c.castcontext)::pg_catalog.text
      FROM pg_catalog.pg_cast c WHERE c.oid::pg_catalog.int8 >= 16384
    UNION ALL
    SELECT ROW('type', t.oid, {_SCHEMA}, t.typname, t.typtype, t.typbasetype, t.typtypmod,
               t.typinput::pg_catalog.oid, t.typoutput::pg_catalog.oid)::pg_catalog.text
      FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
     WHERE t.typtype IN ('b', 'd', 'e', 'r', 'm') AND t.typelem = '0' AND {_own("t.oid")}"""  # noqa: S608 — constants of this file only

FINGERPRINT = f"""
SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
         COALESCE(pg_catalog.string_agg(line, pg_catalog.chr(10) ORDER BY line COLLATE "C"), ''),
         'UTF8')), 'hex')
  FROM ({_LINES}
  ) AS lines"""  # noqa: S608 — constants of this file only
"""One SELECT of one text: hex SHA-256 over the rows that decisions rest on.

It changes with any relation, column, generated column, column comment, view, rule,
trigger, partition, cascading foreign key, function, aggregate, operator, cast or type
outside the system schemas, and where an expression of a table's begins or ends to use a
user's function; not with data, statistics, grants or other indexes.
"""

CATALOG = f"""
SELECT 'server' AS part, pg_catalog.json_build_object(
         'version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
         'fingerprint', ({FINGERPRINT}))::pg_catalog.text AS body
UNION ALL
SELECT 'relation', pg_catalog.json_build_object(
         'oid', c.oid::pg_catalog.int8, 'schema', {_SCHEMA}, 'name', c.relname, 'kind', c.relkind,
         'definition', CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END,
         'side_effects',
           EXISTS (SELECT FROM pg_catalog.pg_rewrite r
                    WHERE r.ev_class = c.oid AND r.rulename <> '_RETURN')
           OR EXISTS (SELECT FROM pg_catalog.pg_trigger t
                       WHERE t.tgrelid = c.oid AND NOT t.tgisinternal),
         'parents', (SELECT pg_catalog.json_agg(i.inhparent::pg_catalog.int8 ORDER BY i.inhseqno)
                       FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
         'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
                              a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnum,
                              pg_catalog.col_description(a.attrelid, a.attnum),
                              pg_catalog.pg_get_expr(d.adbin, d.adrelid)) ORDER BY a.attnum)
                       FROM pg_catalog.pg_attribute a
                       LEFT JOIN pg_catalog.pg_attrdef d
                         ON d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''
                      WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
       )::pg_catalog.text
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE {_own("c.oid")}
UNION ALL
SELECT 'function', pg_catalog.json_build_object(
         'schema', {_SCHEMA}, 'name', p.proname, 'security_definer', p.prosecdef,
         'arguments', pg_catalog.pg_get_function_identity_arguments(p.oid))::pg_catalog.text
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE {_own("p.oid")}
UNION ALL
SELECT DISTINCT 'effect', e.relid::pg_catalog.text FROM ({_EFFECTS}) AS e
UNION ALL
SELECT 'reach', pg_catalog.json_build_array(
         r.written::pg_catalog.int8, r.reached::pg_catalog.int8)::pg_catalog.text
  FROM ({_REACHES}) AS r
UNION ALL
SELECT 'operator', pg_catalog.to_json(o.oprname)::pg_catalog.text
  FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
 WHERE {_own("o.oid")}
UNION ALL
SELECT 'cast', c.oid::pg_catalog.text
  FROM pg_catalog.pg_cast c WHERE c.oid::pg_catalog.int8 >= 16384"""  # noqa: S608 — constants of this file only
"""One SELECT of rows (part text, body text: JSON), read by ``build_catalog``."""

NEWEST_UNREAD = 190000
"""The first ``server_version_num`` that libpg_query (of PostgreSQL 18) cannot be trusted with."""

_PARTS = ("server", "relation", "function", "operator", "cast", "effect", "reach")
_KINDS: Mapping[str, RelationKind] = {
    "r": "table",
    "p": "table",
    "v": "view",
    "m": "matview",
    "f": "foreign",
    "S": "sequence",
    "i": "index",
    "I": "index",
    "c": "composite",
}


def build_catalog(
    rows: Sequence[tuple[str, str]],
    target: str,
    database: str,
    overrides: Mapping[str, str],
) -> Catalog:
    """Make a catalog of what ``CATALOG`` returned.

    Columns of views that nobody classified, and generated columns, are settled by
    what they derive from (``gateway.sql.views``).

    Args:
        rows: (part, body) as read, in any order.
        target: the target's name in the configuration.
        database: the database's name.
        overrides: the configuration's classification, see ``gateway.core.phi.classify``.

    Raises:
        TargetUnavailable: the rows are not those of ``CATALOG``, or the server is newer
            than the grammar that reads its SQL.
    """
    parts: dict[str, list[Any]] = {name: [] for name in _PARTS}
    try:
        for part, body in rows:
            parts[part].append(json.loads(body))
        (server,) = parts["server"]
        catalog = Catalog(
            target=target,
            database=database,
            server_version=int(server["version"]),
            relations=tuple(_relation(row, overrides) for row in parts["relation"]),
            functions=tuple(
                Function(f["schema"], f["name"], f["arguments"], f["security_definer"])
                for f in parts["function"]
            ),
            operators=frozenset(parts["operator"]),
            casts=len(parts["cast"]),
            fingerprint=server["fingerprint"],
        )
        parents = {r["oid"]: tuple(r["parents"] or ()) for r in parts["relation"]}
        generated = {
            (r["oid"], column[2]): column[4]
            for r in parts["relation"]
            for column in r["columns"] or ()
            if column[4] is not None
        }
        reached = [(int(written), int(below)) for written, below in parts["reach"]]
        reached += [(parent, child) for child, above in parents.items() for parent in above]
        effects = {int(oid) for oid in parts["effect"]}
    except (KeyError, TypeError, ValueError) as error:
        raise TargetUnavailable(
            "the target's catalog cannot be read",
            "Check that it is PostgreSQL 15 or later.",
            "sql.catalog",
        ) from error
    _check_version(catalog.server_version)
    relations = _inherited(_reaching(catalog.relations, reached, effects), parents)
    return settle(replace(catalog, relations=relations), generated)


def _check_version(server_version: int) -> None:
    """Refuse a server whose SQL may mean what libpg_query does not know."""
    if server_version >= NEWEST_UNREAD:
        raise TargetUnavailable(
            f"the target is PostgreSQL {server_version // 10000}, newer than the grammar "
            "that the gate reads SQL with",
            "Use PostgreSQL 15 to 18, or a gateway that knows the new version.",
            "sql.catalog",
        )


def _reaching(
    relations: tuple[Relation, ...], pairs: Sequence[tuple[int, int]], effects: set[int]
) -> tuple[Relation, ...]:
    """Mark all whose writing comes, over any number of pairs, to one with side effects."""
    marked = effects | {r.oid for r in relations if r.side_effects}
    known = -1
    while known != len(marked):
        known = len(marked)
        marked |= {written for written, below in pairs if below in marked}
    return tuple(replace(r, side_effects=True) if r.oid in marked else r for r in relations)


def _relation(row: Mapping[str, Any], overrides: Mapping[str, str]) -> Relation:
    schema, name = row["schema"], row["name"]
    columns = []
    for column, type_name, number, comment, expression in row["columns"] or ():
        phi, kind = classify(schema, name, column, type_name, comment, overrides)
        columns.append(Column(column, type_name, number, phi, kind, expression is not None))
    return Relation(
        schema,
        name,
        _KINDS[row["kind"]],
        row["oid"],
        tuple(columns),
        row["definition"],
        row["side_effects"],
    )


def _inherited(
    relations: tuple[Relation, ...], parents: Mapping[int, tuple[int, ...]]
) -> tuple[Relation, ...]:
    """Give partitions and their parents the same classification, column by column.

    A query of the parent reads the children's rows, so PHI in one is PHI in all; a
    child's unclassified column is what its parent says.
    """
    by_oid = {r.oid: r for r in relations}
    pairs = [(child, p) for child, above in parents.items() for p in above if p in by_oid]
    changed = True
    while changed:
        changed = False
        for child, parent in pairs:
            above, below = by_oid[parent], by_oid[child]
            for one, two in ((above, below), (below, above)):
                merged = _joined(by_oid[one.oid], by_oid[two.oid], downwards=two is below)
                if merged != by_oid[two.oid]:
                    by_oid[two.oid] = merged
                    changed = True
    return tuple(by_oid[r.oid] for r in relations)


def _joined(source: Relation, sink: Relation, *, downwards: bool) -> Relation:
    columns = []
    for column in sink.columns:
        other = source.column(column.name)
        if other is not None and column.phi != "yes":
            takes_no = downwards and other.phi == "no" and column.phi == "unclassified"
            if other.phi == "yes" or takes_no:
                column = replace(column, phi=other.phi, kind=other.kind)
        columns.append(column)
    return replace(sink, columns=tuple(columns))
