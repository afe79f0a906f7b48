"""The judge: a line of SQL becomes units to send, actions to decide and columns to mask.

Runs in a worker that may be killed, so it may spend what the limits allow. Every
refusal is a ``BadCommand`` (the line cannot be read) or a ``Denied`` (a rule of the
gate's own, ``sql.*``); anything else that is raised is a defect, and a denial too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, get_args

from gateway.core.action import Action, Facts, Form, Influence
from gateway.core.plan import ColumnPlan, Parsed, ResultPlan, Unit
from gateway.errors import Denied
from gateway.sql.actions import READ_VERBS, read_statement
from gateway.sql.catalog import Catalog, Relation
from gateway.sql.copying import copy_out
from gateway.sql.deeds import Deed, Deeds, Reading
from gateway.sql.explain import refuse_analyze
from gateway.sql.functions import field_calls
from gateway.sql.grammar import RawStatement, check_encoding, parse, too_deep
from gateway.sql.lexing import SqlUnreadable, place_of, split
from gateway.sql.limits import SqlLimits
from gateway.sql.lineage import Trace, trace
from gateway.sql.lineage.fields import attribute_names
from gateway.sql.shown import shown
from gateway.sql.statements import DDL_VERBS
from gateway.sql.walk import Node, check_depth, walk

_EVERY_INFLUENCE: Final[frozenset[Influence]] = frozenset(get_args(Influence))
_ROW_VERBS: Final = frozenset({"select", "insert", "update", "delete", "merge"})
_COLUMN_VERBS: Final = _ROW_VERBS | {"explain", "copy-out", "lock"}
_ROW_STATEMENTS: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
_NOTHING: Final = Trace((), frozenset(), frozenset(), {}, touches_phi=False)


def judge(text: bytes, *, form: Form, catalog: Catalog, limits: SqlLimits) -> Parsed:
    """Read a line whole, before any of it runs.

    Args:
        text: the user's bytes; they are what will be sent.
        form: ``single`` is one message with all statements, as ``psql -c`` sends it;
            ``script`` and ``prompt`` are one message a statement.
        catalog: of the target's database.
        limits: what is over them is refused.

    Raises:
        SqlUnreadable: it is not SQL that the gate can read (exit 64).
        BadCommand: it is a form that the gateway does not carry (exit 64).
        Denied: a rule of the gate's own keeps it from running (exit 77).
    """
    check_encoding(text)
    groups = list(_units(text, form, limits))
    statements = sum(len(group) for _, group in groups)
    if not statements:
        raise SqlUnreadable("there is no statement to run", "Send SQL.")
    units: list[Unit] = []
    actions: list[Action] = []
    for unit, group in groups:
        results: list[ResultPlan] = []
        for statement in group:
            found, result = _statement(unit, statement, catalog, limits)
            results.append(result)
            actions += found
        units.append(Unit(unit, tuple(results)))
    touches_phi = any(result.touches_phi for unit in units for result in unit.results)
    return Parsed(
        units=tuple(units),
        actions=tuple(_of_line(action, statements, form) for action in actions),
        shown=shown(text, touches_phi or not _is_clear(actions, catalog)),
        writes=any(_is_write(action) for action in actions),
        catalog=catalog.fingerprint,
    )


def _is_clear(actions: list[Action], catalog: Catalog) -> bool:
    """Whether literals may be shown: relations are named, and none holds a masked column.

    What stands beside no relation, or beside PHI that the statement does not read,
    may be a patient's value all the same.
    """
    named = {tuple(a.name.split(".")[1:]) for a in actions if a.kind in ("table", "view")}
    found = [catalog.by_name.get(name) for name in named if len(name) == 2]
    return (
        bool(found)
        and len(found) == len(named)
        and all(
            relation is not None and not any(column.masked for column in relation.columns)
            for relation in found
        )
    )


def _units(
    text: bytes, form: Form, limits: SqlLimits
) -> Iterator[tuple[bytes, list[RawStatement]]]:
    if form == "single":
        yield text, parse(text, limits)
        return
    for piece in split(text, limits):
        unit = text[piece.start : piece.end]
        origin = place_of(text, piece.start)
        try:
            statements = parse(unit, limits)
        except SqlUnreadable as error:
            raise error.moved(*origin) from error
        if len(statements) != 1:
            raise SqlUnreadable(
                "the gate cannot tell where a statement ends",
                "Write each statement with its own semicolon.",
                "sql.lexing",
                origin,
            )
        if statements[0].kind == "CopyStmt":
            copy_out(statements[0].fields)  # before COPY's data lines are taken for SQL
        yield unit, statements


def _statement(
    unit: bytes, statement: RawStatement, catalog: Catalog, limits: SqlLimits
) -> tuple[list[Action], ResultPlan]:
    node = Node(statement.kind, statement.fields)
    if not check_depth(node, limits.nodes):
        raise too_deep()
    try:
        reading = read_statement(node, catalog, limits)
    except RecursionError as error:
        raise too_deep() from error
    followed = _trace(unit[statement.start : statement.end], statement, reading, catalog)
    reading = _with_calls(reading, followed, catalog)
    if statement.kind == "ExplainStmt" and followed.influences:
        refuse_analyze(statement.fields)
    touches_phi = (
        followed.touches_phi
        or reading.leaky
        or reading.opaque
        or any(_speaks(deed) for deed in reading.deeds)
    )
    actions = [_action(deed, followed) for deed in reading.deeds]
    result = _result(statement.kind, reading, followed, touches_phi, limits)
    return actions, replace(result, counts_rows=_counts_rows(node, reading))


def _trace(text: bytes, statement: RawStatement, reading: Reading, catalog: Catalog) -> Trace:
    """Lineage's answer; where it has none, all that the statement names is suspected."""
    if reading.traceable:
        return trace(statement.tree, text.decode("utf-8"), catalog)
    found = _NOTHING
    if reading.opaque or any(deed.phi or _masked(deed.relation) for deed in reading.deeds):
        found = _suspicion(reading)
    if any(deed.verb in DDL_VERBS for deed in reading.deeds):
        return found  # its expressions are stored, not run; OLD.x and NEW.x are columns
    return replace(found, calls=frozenset(name for _, name in attribute_names(statement.tree)))


def _with_calls(reading: Reading, followed: Trace, catalog: Catalog) -> Reading:
    """Add what ``row.name`` may call where ``name`` is no column that lineage knows."""
    deeds = Deeds()
    deeds.add_all(reading.deeds)
    for name in sorted(followed.calls):
        for call in field_calls(name, catalog):
            deeds.add(Deed(call.verb, call.kind, call.name))
    return replace(reading, deeds=deeds.all())


def _counts_rows(node: Node, reading: Reading) -> bool:
    """See ``ResultPlan.counts_rows``."""
    writing = {deed.verb for deed in reading.deeds} - READ_VERBS - {"lock"}
    if not writing:
        return True
    if node.kind not in _ROW_STATEMENTS or not writing <= _ROW_VERBS:
        return False  # a call, DDL, TRUNCATE, or a query that holds a writing one
    return sum(below.kind in _ROW_STATEMENTS for below in walk(node)) == 1


def _suspicion(reading: Reading) -> Trace:
    columns = frozenset(
        f"{relation.schema}.{relation.name}.{column}"
        for deed in reading.deeds
        if (relation := deed.relation) is not None
        for column in _masked(relation)
    )
    # DROP and its kin take an object whole: no value of it steers them.
    steered = reading.opaque or any(deed.verb in _ROW_VERBS for deed in reading.deeds)
    influences = _EVERY_INFLUENCE if steered else frozenset[Influence]()
    return Trace(None, influences, columns, {}, touches_phi=True)


def _masked(relation: Relation | None) -> list[str]:
    return [c.name for c in relation.columns if c.masked] if relation else []


def _speaks(deed: Deed) -> bool:
    """Whether an error or a notice about this deed could quote PHI: a key, a failing row."""
    if deed.verb in ("call", "do", "execute"):
        return True
    reads = deed.verb in ("select", "explain", "copy-out")
    return not reads and (deed.phi or bool(_masked(deed.relation)))


def _action(deed: Deed, followed: Trace) -> Action:
    columns, phi_columns = _columns(deed, followed)
    writes = deed.verb in ("insert", "update", "merge", "create")
    facts = Facts(
        has_where=deed.has_where,
        phi=deed.phi or bool(phi_columns),
        phi_influences=followed.influences,
        phi_to_plain=followed.phi_to_plain and writes,
        ddl=deed.verb in DDL_VERBS,
        recursive=deed.recursive,
        wildcard=deed.wildcard,
        setting_safe=deed.setting_safe,
        columns=columns,
        phi_columns=phi_columns,
    )
    return Action(deed.verb, deed.kind, deed.name, facts)


def _columns(deed: Deed, followed: Trace) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The columns of the deed's relation that it uses, and those of them that are PHI."""
    relation = deed.relation
    if relation is None:
        return (), ()
    masked = _masked(relation)
    if deed.verb not in _COLUMN_VERBS:
        return (), tuple(masked)
    key = f"{relation.schema}.{relation.name}"
    used, traced = set(deed.written), set[str]()
    if deed.verb != "insert":
        prefix = key + "."
        traced = {c.removeprefix(prefix) for c in followed.phi_columns if c.startswith(prefix)}
        used |= traced | set(followed.columns_read.get(key, ()))
    columns = tuple(column.name for column in relation.columns if column.name in used)
    phi_columns = tuple(name for name in columns if name in masked or name in traced)
    if deed.verb == "delete" or (key not in followed.columns_read and followed.columns is None):
        # Whole rows, or a relation that lineage did not get to.
        phi_columns = phi_columns or tuple(masked)
    return columns, phi_columns


def _result(
    kind: str, reading: Reading, followed: Trace, touches_phi: bool, limits: SqlLimits
) -> ResultPlan:
    columns = followed.columns
    if reading.returns == "tag":
        return ResultPlan((), touches_phi, "tag")
    if reading.opaque or reading.leaky:
        columns = None
    elif reading.shows:
        columns = (ColumnPlan(reading.shows, masked=False),)
    elif kind == "ExplainStmt":
        columns = None if touches_phi else (ColumnPlan("QUERY PLAN", masked=False),)
    if columns is not None and len(columns) > limits.output_columns:
        raise Denied(
            f"the result has more than {limits.output_columns} columns",
            "Name the columns that you need.",
            "sql.size",
        )
    return ResultPlan(columns, touches_phi, reading.returns, reading.copy)


def _is_write(action: Action) -> bool:
    unsafe_set = action.verb == "set" and not action.facts.setting_safe
    return action.verb not in READ_VERBS or unsafe_set


def _of_line(action: Action, statements: int, form: Form) -> Action:
    return replace(action, facts=replace(action.facts, statements=statements, form=form))
