"""psql's command line, environment and first bytes."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from gateway.connectors.psql.launch import launch
from gateway.errors import GatewayFault

_DIR = PurePosixPath("/run/tollhouse/s/a1")


def test_the_whole_command_line() -> None:
    spec = launch(
        ("--csv", "-t"), socket_dir=_DIR, user="etl", database="claims", restrict_key="K1"
    )
    assert spec.program == "psql"
    assert spec.arguments == (
        *("-X", "-n", "--no-password", "-P", "pager=off", "-v", "PROMPT1=", "-v", "PROMPT2="),
        *("-h", "/run/tollhouse/s/a1", "-U", "etl", "-d", "claims"),
        *("--csv", "-t"),
    )
    assert spec.environment == {
        "LANG": "C.UTF-8",
        "PSQL_PAGER": "",
        "PSQL_HISTORY": "/dev/null",
        "TERM": "dumb",
    }
    assert spec.socket_dir == _DIR
    assert spec.first_input == b"\\restrict K1\n"


@pytest.mark.parametrize("key", ["", "a b", "a\n\\! id", "k" * 65, "é", "a'"])
def test_a_key_that_psql_could_misread_is_refused(key: str) -> None:
    with pytest.raises(GatewayFault):
        launch((), socket_dir=_DIR, user="u", database="d", restrict_key=key)


@pytest.mark.parametrize("name", ["host=evil", "postgres://evil/d", "postgresql://evil/d", "a\0b"])
def test_a_database_that_names_another_host_is_refused(name: str) -> None:
    with pytest.raises(GatewayFault):
        launch((), socket_dir=_DIR, user="u", database=name, restrict_key="K")


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(GatewayFault):
        launch((), socket_dir=PurePosixPath("s"), user="u", database="d", restrict_key="K")


def test_a_nul_in_a_flag_is_refused() -> None:
    with pytest.raises(GatewayFault):
        launch(("-F\0",), socket_dir=_DIR, user="u", database="d", restrict_key="K")
