"""The settings that are pinned upstream before a decided byte is sent."""

from __future__ import annotations

from collections.abc import Sequence


def session_sql(search_path: Sequence[str], *, statement_timeout_ms: int, read_only: bool) -> str:
    """One Query that makes the session the one that decisions assume.

    Args:
        search_path: schemas in order, ``pg_catalog`` first and ``pg_temp`` last; else
            a temporary table could shadow a decided name.
        statement_timeout_ms: 0 for none.
        read_only: transactions begin read-only (the reader's login).
    """
    path = ", ".join('"' + name.replace('"', '""') + '"' for name in search_path)
    settings = {
        "search_path": path,
        "standard_conforming_strings": "on",
        "client_encoding": "'UTF8'",
        "row_security": "on",
        "statement_timeout": str(int(statement_timeout_ms)),
        "default_transaction_read_only": "on" if read_only else "off",
    }
    return "; ".join(f"SET {name} = {value}" for name, value in settings.items())
