"""Functions: which calls only compute, and which may do more.

The reviewed builtins are in ``functions.tsv`` with every signature that PostgreSQL
15, 16 and 18 have for them; ``tests/sql/generate_functions.py`` says how they were
chosen and writes the file. A name is judged with all its signatures, because the
types of a call's arguments are not known here. Labels such as STABLE prove nothing.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from gateway.core.action import Action
from gateway.errors import Denied
from gateway.sql.catalog import Catalog, Function
from gateway.sql.shown import shown_name


def _reviewed_names() -> frozenset[str]:
    table = files("gateway.sql").joinpath("functions.tsv").read_text(encoding="utf-8")
    return frozenset(line.split("\t", 1)[0] for line in table.splitlines()[1:])


REVIEWED: Final = _reviewed_names()
"""Names in ``pg_catalog`` that only compute, whatever their arguments."""

_SAMPLING: Final = frozenset({"bernoulli", "system"})


def call_actions(name: tuple[str, ...], catalog: Catalog) -> tuple[Action, ...]:
    """What calling a function by this name may do beyond computing.

    Args:
        name: as written, one part or (schema, function).
        catalog: names the user's functions and the search path.

    Returns:
        Nothing for a reviewed builtin; a ``call`` for each of the user's functions
        that the name may mean.

    Raises:
        Denied: no list knows it, or a user's function could capture the name of a
            builtin (rule ``sql.function``).
    """
    schema, function = _parts(name)
    if schema == "pg_catalog":
        if function in REVIEWED:
            return ()
        raise _not_reviewed(f"pg_catalog.{function}")
    own = candidates(schema, function, catalog)
    if schema is None and function in REVIEWED:
        if own:
            raise _captured(f"function {own[0].schema}.{function}", f"pg_catalog.{function}")
        return ()
    if not own:
        raise _not_reviewed(".".join(name))
    return tuple(_call(candidate) for candidate in own)


def candidates(schema: str | None, name: str, catalog: Catalog) -> tuple[Function, ...]:
    """The user's functions that a name may mean; temporary ones never match a bare name."""
    schemas = catalog.search_path if schema is None else (schema,)
    return tuple(f for f in catalog.functions if f.name == name and f.schema in schemas)


def attribute_actions(name: str, catalog: Catalog) -> tuple[Action, ...]:
    """What ``row.name`` may do if ``name`` is no column: PostgreSQL calls ``name(row)``."""
    # More arguments than one may have defaults, which the catalog does not tell.
    return tuple(_call(f) for f in candidates(None, name, catalog) if f.arguments)


def field_calls(name: str, catalog: Catalog) -> tuple[Action, ...]:
    """What ``value.name`` may do if the gate knows no such column: ``name(value)``.

    Returns:
        As ``call_actions``; a reviewed builtin that a user's function could capture
        gives a ``call``, because it may be either.

    Raises:
        Denied: no list knows the function (rule ``sql.function``).
    """
    own = attribute_actions(name, catalog)
    if own or name in REVIEWED:
        return own
    raise Denied(
        f"{shown_name(name)} is not a column that the gate knows there, so PostgreSQL may call "
        "a function of that name",
        "Check the name; else write the column without what is before the dot, or give the "
        "relation a list of column names (AS t(a, b)).",
        "sql.function",
    )


def check_sampling(name: tuple[str, ...], catalog: Catalog) -> None:
    """Accept PostgreSQL's own methods of TABLESAMPLE only.

    Raises:
        Denied: another method, or one that a user's function could capture.
    """
    schema, method = _parts(name)
    own = schema is None and candidates(None, method, catalog)
    if schema not in (None, "pg_catalog") or method not in _SAMPLING or own:
        raise _not_reviewed(".".join(name))


def check_operator(name: tuple[str, ...], catalog: Catalog) -> None:
    """Accept an operator that can only be PostgreSQL's own.

    Raises:
        Denied: it lies outside ``pg_catalog``, or one there could capture it
            (rule ``sql.operator``).
    """
    schema, operator = _parts(name)
    if schema not in (None, "pg_catalog"):
        raise Denied(
            f"operator {shown_name(schema or '')}.{operator} is not PostgreSQL's own",
            "Use an operator of pg_catalog.",
            "sql.operator",
        )
    if schema is None and operator in catalog.operators:
        raise Denied(
            f"an operator {operator} outside pg_catalog could capture this one",
            f"Write OPERATOR(pg_catalog.{operator}) if you mean PostgreSQL's own.",
            "sql.operator",
        )


def _parts(name: tuple[str, ...]) -> tuple[str | None, str]:
    if len(name) == 1:
        return None, name[0]
    if len(name) == 2:
        return name[0], name[1]
    raise Denied(
        "a name of more than two parts is not taken here", "Write schema.name.", "sql.function"
    )


def _call(function: Function) -> Action:
    name = f"{function.schema}.{function.name}({function.arguments})"
    return Action("call", "function", name)


def _not_reviewed(name: str) -> Denied:
    return Denied(
        f"function {shown_name(name)} is not on the list of functions that only compute",
        "Use a builtin that only computes from its arguments (gateway/sql/functions.tsv).",
        "sql.function",
    )


def _captured(what: str, builtin: str) -> Denied:
    return Denied(
        f"{what} could capture this call",
        f"Write {builtin} if you mean PostgreSQL's own.",
        "sql.function",
    )
