"""SET and RESET: what cannot loosen the gate, and what a real server makes of the rest."""

from __future__ import annotations

import pytest

from gateway.sql.judge import judge
from gateway.sql.limits import SqlLimits
from tests.servers import Server
from tests.sql.gate import CATALOG, judged


def is_safe(sql: str, statement_timeout_ms: int = 300_000) -> bool:
    limits = SqlLimits(statement_timeout_ms=statement_timeout_ms)
    parsed = judge(sql.encode(), form="single", catalog=CATALOG, limits=limits)
    found = [a for a in parsed.actions if a.verb == "set"]
    assert found
    safe = all(a.facts.setting_safe for a in found)
    assert parsed.writes or safe
    return safe


@pytest.mark.parametrize(
    "sql",
    [
        "set statement_timeout = 1",
        "set statement_timeout = 300000",
        "set statement_timeout to '5min'",
        "set local statement_timeout = ' 1.5 s '",
        "set session statement_timeout = 1500.5",
        "set lock_timeout = '300s'",
        "set idle_in_transaction_session_timeout = '10min'",
        "reset lock_timeout",
        "set lock_timeout to default",
        "set timezone = 'UTC'",
        "reset timezone",
        "set session characteristics as transaction read only",
    ],
)
def test_what_only_tightens_is_safe(sql: str) -> None:
    assert is_safe(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "set statement_timeout = 0",
        "set statement_timeout = '0'",
        "set statement_timeout = '0.4ms'",
        "set statement_timeout = '300us'",
        "set statement_timeout = -1",
        "set statement_timeout = 300001",
        "set statement_timeout = '301s'",
        "set statement_timeout = '6min'",
        "set statement_timeout = '1d'",
        "set statement_timeout = '0x10'",
        "set statement_timeout = '1e9'",
        "set statement_timeout = ''",
        "set statement_timeout = 1, 2",
        "set statement_timeout to default",
        "set local statement_timeout = 0",
        "set local statement_timeout to default",
        'set "Statement_Timeout" = 0',
        "set statement_timeout from current",
        "set timezone from current",
        "reset statement_timeout",
        "reset all",
        "discard all",
        "discard plans",
        "set lock_timeout = 0",
        "set lock_timeout = '301s'",
        "set idle_in_transaction_session_timeout = 0",
        "set idle_in_transaction_session_timeout = '11min'",
        "set work_mem = '1TB'",
        "set session characteristics as transaction read write",
        "reset search_path",
        "set search_path to default",
        "reset session authorization",
        "set temp_file_limit = -1",
    ],
)
def test_what_loosens_is_not(sql: str) -> None:
    assert not is_safe(sql)


def test_the_bound_is_what_the_guard_pins() -> None:
    assert is_safe("set statement_timeout = '2s'", 2000)
    assert not is_safe("set statement_timeout = '2001ms'", 2000)
    assert is_safe("set statement_timeout = '1d'", 0)
    assert not is_safe("set statement_timeout = 0", 0)


@pytest.mark.parametrize(
    "sql",
    [
        "alter role r set statement_timeout = 0",
        "alter role all in database claims set search_path = public",
        "alter database claims set row_security = off",
        "alter role r reset all",
        "alter system set statement_timeout = 0",
    ],
)
def test_settings_of_roles_and_databases_are_definitions(sql: str) -> None:
    parsed = judged(sql)
    assert parsed.actions[0].verb == "alter"
    assert parsed.actions[0].facts.ddl
    assert parsed.writes
    assert not any(a.facts.setting_safe for a in parsed.actions)


@pytest.mark.parametrize("text", ["reset statement_timeout", "reset all", "discard all"])
def test_a_reset_does_drop_what_was_pinned(pg_server: Server, text: str) -> None:
    """Why RESET is not safe: it goes back before the guard's own SET."""
    pinned = "SET statement_timeout = '7s'; SET search_path = pg_catalog, public, pg_temp;"
    shown = pg_server.sql(f"{pinned}\n{text};\nSHOW statement_timeout")
    assert shown == "0"


@pytest.mark.parametrize("value", ["'0.4ms'", "'300us'", "0"])
def test_small_values_are_no_timeout_at_all(pg_server: Server, value: str) -> None:
    assert pg_server.sql(f"SET statement_timeout = {value}; SHOW statement_timeout") == "0"
