"""Settings that a session may change without loosening the gate."""

from __future__ import annotations

import re
from typing import Any, Final

SAFE_SETTINGS: Final = frozenset(
    {
        "timezone",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "jit",
    }
)
"""Settings whose SET and RESET are safe: they move limits, not meaning.

Left out with a reason: ``datestyle``, ``intervalstyle``, ``bytea_output`` and
``extra_float_digits`` change how values look, on which the pattern net rests;
``client_encoding`` and ``standard_conforming_strings`` how the text is read;
``search_path``, ``role``, ``session_authorization``, ``row_security``,
``session_replication_role`` and ``default_transaction_*`` who may do what; ``log_*``,
``client_min_messages``, ``application_name`` and ``debug_*`` carry text to other readers;
``enable_*``, ``work_mem`` and the costs choose the plan: with ``enable_hashagg`` off a
DISTINCT sorts, and the rows come in the order of the PHI that is only listed.
"""

_SHOWN: Final = SAFE_SETTINGS | {
    "client_encoding",
    "datestyle",
    "default_transaction_read_only",
    "in_hot_standby",
    "integer_datetimes",
    "intervalstyle",
    "is_superuser",
    "lc_collate",
    "lc_ctype",
    "max_connections",
    "search_path",
    "server_encoding",
    "server_version",
    "server_version_num",
    "session_authorization",
    "standard_conforming_strings",
    "transaction_isolation",
    "transaction_read_only",
}

_SAFE_MODES: Final = frozenset({"transaction_isolation", "transaction_deferrable"})


# Most milliseconds that a session may give itself, where the guard pins nothing.
_TIMEOUTS_MS: Final = {
    "lock_timeout": 300_000,
    "idle_in_transaction_session_timeout": 600_000,
}
_DURATION: Final = re.compile(r" *([0-9]{1,9}(?:\.[0-9]{1,6})?) *(us|ms|s|min|h|d)? *")
_UNIT_MS: Final = {
    "us": 0.001,
    "ms": 1.0,
    "s": 1000.0,
    "min": 60_000.0,
    "h": 3_600_000.0,
    "d": 86_400_000.0,
}
_RESETS: Final = frozenset({"VAR_RESET", "VAR_SET_DEFAULT"})


def is_safe_to_set(name: str) -> bool:
    """Whether some values of the setting cannot loosen the gate."""
    return name.lower() in SAFE_SETTINGS


def is_safe_change(fields: dict[str, Any], statement_timeout_ms: int) -> bool:
    """Whether a SET or RESET cannot loosen the gate.

    A timeout of 0 is none at all, and RESET goes back to what the login began with,
    before the guard pinned its own.

    Args:
        fields: of a ``VariableSetStmt`` on one setting.
        statement_timeout_ms: what the guard pins, in milliseconds; 0 for none.
    """
    name, kind = str(fields.get("name", "")).lower(), fields.get("kind")
    if not is_safe_to_set(name) or kind not in _RESETS | {"VAR_SET_VALUE"}:
        return False
    if kind in _RESETS:
        return name != "statement_timeout"
    if name == "statement_timeout":
        return _is_within(fields.get("args", []), statement_timeout_ms)
    return name not in _TIMEOUTS_MS or _is_within(fields.get("args", []), _TIMEOUTS_MS[name])


def _is_within(arguments: list[dict[str, Any]], most_ms: int) -> bool:
    """Whether a SET's value is one duration from 1 ms to the bound, 0 for no bound."""
    constant = arguments[0].get("A_Const", {}) if len(arguments) == 1 else {}
    text = constant.get("sval", {}).get("sval") or constant.get("fval", {}).get("fval")
    if "ival" in constant:
        text = str(constant["ival"].get("ival", 0))
    match = _DURATION.fullmatch(text or "")
    if match is None:
        return False
    value_ms = float(match[1]) * _UNIT_MS[match[2] or "ms"]
    return value_ms >= 1 and (not most_ms or value_ms <= most_ms)


def is_safe_to_show(name: str) -> bool:
    """Whether the value is the server's own; others may hold what a client put there."""
    return name.lower() in _SHOWN


def unsafe_modes(options: list[dict[str, Any]]) -> tuple[str, ...]:
    """The transaction modes in BEGIN or SET TRANSACTION that could loosen the gate.

    READ WRITE undoes the reader's ``default_transaction_read_only``; READ ONLY and
    isolation levels are safe.
    """
    unsafe = []
    for option in options:
        mode = option.get("DefElem", {})
        name = str(mode.get("defname", ""))
        constant = mode.get("arg", {}).get("A_Const", {})
        read_only = name == "transaction_read_only" and constant.get("ival", {}).get("ival") == 1
        if name not in _SAFE_MODES and not read_only:
            unsafe.append(name)
    return tuple(unsafe)
