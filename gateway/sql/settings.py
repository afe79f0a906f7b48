"""Settings that a session may change without loosening the gate."""

from __future__ import annotations

from typing import Any, Final

SAFE_SETTINGS: Final = frozenset(
    {
        "timezone",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
        "work_mem",
        "jit",
        "random_page_cost",
        "enable_hashagg",
        "enable_hashjoin",
        "enable_indexscan",
        "enable_mergejoin",
        "enable_nestloop",
        "enable_seqscan",
        "enable_sort",
    }
)
"""Settings whose SET and RESET are safe: they move limits and plans, not meaning.

Left out with a reason: ``datestyle``, ``intervalstyle``, ``bytea_output`` and
``extra_float_digits`` change how values look, on which the pattern net rests;
``client_encoding`` and ``standard_conforming_strings`` how the text is read;
``search_path``, ``role``, ``session_authorization``, ``row_security``,
``session_replication_role`` and ``default_transaction_*`` who may do what; ``log_*``,
``client_min_messages``, ``application_name`` and ``debug_*`` carry text to other readers.
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


def is_safe_to_set(name: str) -> bool:
    """Whether changing the setting cannot loosen the gate."""
    return name.lower() in SAFE_SETTINGS


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
