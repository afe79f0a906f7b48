"""The names that the server gives to columns: ``FigureColname``, and functions in FROM.

Subqueries are read by these names, so a wrong one could let a name slip to an
outer level. Where versions differ the name is None: any name may mean it.
Source: PostgreSQL, ``src/backend/parser/parse_target.c``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Node = dict[str, Any]

_FIXED = {
    "A_ArrayExpr": "array",
    "CoalesceExpr": "coalesce",
    "GroupingFunc": "grouping",
    "MergeSupportFunc": "merge_action",
    "RowExpr": "row",
    "XmlSerialize": "xmlserialize",
}
_WEAK, _STRONG = 1, 2


def output_name(node: Node) -> str | None:
    """Name an expression of a select list that has no alias.

    Args:
        node: the expression, tagged, as libpg_query's JSON has it.
    """
    name, strength = _figure(node)
    return name if strength else "?column?"


def last_name(names: list[Node]) -> str:
    """The last part of a possibly qualified name."""
    return str(names[-1]["String"].get("sval", ""))


def _figure(node: Node) -> tuple[str | None, int]:
    ((tag, body),) = node.items()
    if tag in _FIXED:
        return _FIXED[tag], _STRONG
    if tag.startswith("Json"):
        return None, _STRONG
    figure = _FIGURES.get(tag)
    return figure(body) if figure else (None, 0)


def _strings(nodes: list[Node]) -> list[str]:
    return [n["String"].get("sval", "") for n in nodes if "String" in n]


def _column(body: Node) -> tuple[str | None, int]:
    names = _strings(body["fields"])
    return (names[-1], _STRONG) if names else (None, 0)


def _indirection(body: Node) -> tuple[str | None, int]:
    names = _strings(body["indirection"])
    return (names[-1], _STRONG) if names else _figure(body["arg"])


def _call(body: Node) -> tuple[str | None, int]:
    return last_name(body["funcname"]), _STRONG


def _operator(body: Node) -> tuple[str | None, int]:
    return ("nullif", _STRONG) if body.get("kind") == "AEXPR_NULLIF" else (None, 0)


def _cast(body: Node) -> tuple[str | None, int]:
    name, strength = _figure(body["arg"])
    return (name, strength) if strength > _WEAK else (last_name(body["typeName"]["names"]), _WEAK)


def _case(body: Node) -> tuple[str | None, int]:
    name, strength = _figure(body["defresult"]) if "defresult" in body else (None, 0)
    return (name, strength) if strength > _WEAK else ("case", _WEAK)


def _collate(body: Node) -> tuple[str | None, int]:
    return _figure(body["arg"])


def _sublink(body: Node) -> tuple[str | None, int]:
    kind = body.get("subLinkType")
    if kind == "EXISTS_SUBLINK":
        return "exists", _STRONG
    if kind == "ARRAY_SUBLINK":
        return "array", _STRONG
    if kind != "EXPR_SUBLINK":
        return None, 0
    select = body["subselect"].get("SelectStmt", {})
    while "larg" in select:
        select = select["larg"]
    if select.get("valuesLists"):
        return "column1", _STRONG
    targets = select.get("targetList", [])
    if len(targets) != 1:
        return None, _STRONG
    target = targets[0]["ResTarget"]
    if "name" in target:
        return target["name"], _STRONG
    if _is_star(target["val"]):
        return None, _STRONG
    return output_name(target["val"]), _STRONG


def _is_star(node: Node) -> bool:
    fields = node.get("ColumnRef", {}).get("fields") or node.get("A_Indirection", {}).get(
        "indirection"
    )
    return bool(fields) and "A_Star" in fields[-1]


def _min_max(body: Node) -> tuple[str | None, int]:
    return ("least" if body.get("op") == "IS_LEAST" else "greatest"), _STRONG


def _value_function(body: Node) -> tuple[str | None, int]:
    name = str(body["op"]).removeprefix("SVFOP_").lower()
    return name.removesuffix("_n"), _STRONG


def _xml(body: Node) -> tuple[str | None, int]:
    name = str(body["op"]).removeprefix("IS_").lower()
    return (name, _STRONG) if name.startswith("xml") else (None, 0)


_FIGURES = {
    "ColumnRef": _column,
    "A_Indirection": _indirection,
    "FuncCall": _call,
    "A_Expr": _operator,
    "TypeCast": _cast,
    "CaseExpr": _case,
    "CollateClause": _collate,
    "SubLink": _sublink,
    "MinMaxExpr": _min_max,
    "SQLValueFunction": _value_function,
    "XmlExpr": _xml,
}


# Builtins in FROM and the names of their columns; None is the alias, or the function's
# own name (``chooseScalarFunctionAlias``). Others give columns that are not known.
_FROM_COLUMNS: Mapping[str, tuple[str | None, ...]] = {
    "generate_series": (None,),
    "generate_subscripts": (None,),
    "json_array_elements": ("value",),
    "json_array_elements_text": ("value",),
    "json_each": ("key", "value"),
    "json_each_text": ("key", "value"),
    "json_object_keys": (None,),
    "jsonb_array_elements": ("value",),
    "jsonb_array_elements_text": ("value",),
    "jsonb_each": ("key", "value"),
    "jsonb_each_text": ("key", "value"),
    "jsonb_object_keys": (None,),
    "jsonb_path_query": (None,),
    "regexp_matches": (None,),
    "regexp_split_to_table": (None,),
    "string_to_table": (None,),
}


def returned_names(call: Node, alias: str | None) -> list[str] | None:
    """The columns of a builtin in FROM; None if they are not known."""
    names = [part["String"]["sval"] for part in call.get("FuncCall", {}).get("funcname", [])]
    if not names or names[:-1] not in ([], ["pg_catalog"]):
        return None
    arguments = call["FuncCall"].get("args", [])
    if names[-1] == "unnest":
        # Several arguments are several functions, so the alias names none of them.
        return [alias or "unnest"] if len(arguments) == 1 else ["unnest"] * len(arguments)
    columns = _FROM_COLUMNS.get(names[-1])
    return None if columns is None else [c or alias or names[-1] for c in columns]
