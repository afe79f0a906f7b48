"""EXPLAIN: what it may not be asked where PHI steers the statement."""

from __future__ import annotations

from typing import Any, Final

from gateway.errors import Denied

_FALSE: Final = frozenset({"false", "off", "0"})


def refuse_analyze(fields: dict[str, Any]) -> None:
    """Refuse ANALYZE on a statement that PHI steers.

    Its times and counts answer the question that the condition asks. A plan without it
    is masked whole.

    Args:
        fields: of an ``ExplainStmt``.

    Raises:
        Denied: ANALYZE is asked for (rule ``sql.explain``).
    """
    options = (option.get("DefElem", {}) for option in fields.get("options", []))
    if any(o.get("defname") == "analyze" and not _is_false(o.get("arg")) for o in options):
        raise Denied(
            "EXPLAIN ANALYZE of a statement that PHI steers would measure the PHI",
            "Explain it without ANALYZE, or without conditions on PHI.",
            "sql.explain",
        )


def _is_false(argument: dict[str, Any] | None) -> bool:
    """Whether an option's argument certainly is false; no argument means true."""
    if not argument:
        return False
    ((kind, value),) = argument.items()
    if kind == "Boolean":
        return not value.get("boolval")
    text = value.get("sval") if kind == "String" else value.get("ival", 0)
    return kind in ("String", "Integer") and str(text).lower() in _FALSE
