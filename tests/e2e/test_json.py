"""TOLLHOUSE_JSON=1 and TOLLHOUSE_WAIT=1: what programs read, and commands that wait."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.e2e.processes import WAIT_S, begin, until
from tests.e2e.scene import DATABASE, Scene
from tests.servers import MAJORS

ANY = f"db{MAJORS[-1]}"
JSON = {"TOLLHOUSE_JSON": "1"}
VERDICT = {"verdict", "rule", "reason", "digest", "actions", "masked_columns", "approval"}


@pytest.fixture
def code(gate: Scene) -> Iterator[str]:
    """A row of ``codes`` to change, which nobody else looks at."""
    server, name = gate.servers[MAJORS[-1]], f"own-{secrets.token_hex(4)}"
    server.sql(f"insert into codes values ('{name}', 'before')", database=DATABASE)
    yield name
    server.sql(f"delete from codes where code = '{name}'", database=DATABASE)


def _lines(done: subprocess.CompletedProcess[bytes]) -> list[dict[str, Any]]:
    """Stderr, which must hold JSON lines only."""
    return [json.loads(line) for line in done.stderr.decode().splitlines()]


REFUSED = {
    "drop table codes": (77, "no-ddl"),
    "selec 1": (64, "sql.parse"),
    "psql --wrong": (64, "psql.flags"),
}


@pytest.mark.parametrize("command", REFUSED)
def test_a_refusal(gate: Scene, command: str) -> None:
    code, rule = REFUSED[command]
    done = gate.ssh(f"{ANY}@etl", command, env=JSON)
    (told,) = _lines(done)
    assert (done.returncode, done.stdout) == (code, b"")
    assert (told["type"], told["exit_code"], told["rule"]) == ("refusal", code, rule)
    assert told["verdict"] == "deny"
    assert told["reason"]
    assert told["advice"]
    assert told.keys() >= VERDICT


def test_a_refusal_names_the_actions(gate: Scene) -> None:
    (told,) = _lines(gate.ssh(f"{ANY}@etl", "drop table codes", env=JSON))
    (action,) = told["actions"]
    assert (action["verb"], action["object"]) == ("drop", "clinic.public.codes")
    assert action["facts"]["ddl"] is True


def test_an_unreachable_target(gate: Scene) -> None:
    (told,) = _lines(gate.ssh("down@etl", "select 1", env=JSON))
    assert (told["type"], told["exit_code"], told["rule"]) == ("refusal", 69, "target.unreachable")


def test_a_hold(gate: Scene) -> None:
    done = gate.ssh(f"{ANY}@etl", "delete from claims where id = 4711", env=JSON)
    (told,) = _lines(done)
    assert (done.returncode, done.stdout) == (75, b"")
    assert (told["type"], told["exit_code"]) == ("held", 75)
    assert told.keys() >= VERDICT
    assert told["verdict"] == "ask"
    assert re.fullmatch(r"[0-9a-f]{64}", told["digest"])
    assert re.fullmatch(r"T-\d+", told["ticket"])
    assert told["approval"]["groups"] == ["phi-approvers"]
    assert datetime.fromisoformat(told["expires_at"]) > datetime.now(UTC)


def test_what_psql_says(gate: Scene) -> None:
    script = "select 7;\nrollback;\nselect 1/0;\n"
    done = gate.ssh(f"{ANY}@etl", script=script, env=JSON, options=["-T"])
    assert done.returncode == 0
    told = _lines(done)
    assert {line["type"] for line in told} == {"stderr"}
    assert [line["text"] for line in told] == [
        "WARNING:  there is no transaction in progress",
        "ERROR:  division by zero",
    ]
    assert done.stdout == b" ?column? \n----------\n        7\n(1 row)\n\nROLLBACK\n"


def test_a_waiting_command_goes_on_within_a_second(gate: Scene, code: str) -> None:
    command = f"update codes set label = 'waited' where code = '{code}'"
    gate.ssh(f"{ANY}@etl", "select 1")
    waiting = begin(gate, f"{ANY}@etl", command, options=["-o", "SetEnv=TOLLHOUSE_WAIT=1"])
    ticket = _ticket(waiting)
    assert waiting.poll() is None
    log = gate.servers[MAJORS[-1]].log
    assert command not in log()
    voted = gate.ssh("gateway@approver", "approve", ticket, "--reason", "test", "--json")
    assert voted.returncode == 0, voted.stderr.decode()
    out, err = waiting.communicate(timeout=WAIT_S)
    assert (waiting.returncode, out) == (0, b"UPDATE 1\n"), err.decode()
    at = datetime.fromisoformat(json.loads(voted.stdout)["votes"][0]["at"])
    (ran,) = [line for line in log().splitlines() if command in line]
    started = datetime.strptime(ran[:23], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)
    assert 0 <= (started - at).total_seconds() < 1


def test_a_waiting_command_is_told_no(gate: Scene, code: str) -> None:
    gate.ssh(f"{ANY}@etl", "select 1")
    command = f"update codes set label = 'never' where code = '{code}'"
    waiting = begin(gate, f"{ANY}@etl", command, options=["-o", "SetEnv=TOLLHOUSE_WAIT=1"])
    ticket = _ticket(waiting)
    voted = gate.ssh("gateway@approver", "deny", ticket, "--reason", "not today")
    assert voted.returncode == 0, voted.stderr.decode()
    out, err = waiting.communicate(timeout=WAIT_S)
    assert (waiting.returncode, out) == (77, b"")
    assert b"What to do: " in err
    assert command not in gate.servers[MAJORS[-1]].log()


def test_a_client_that_stops_waiting_keeps_its_ticket(gate: Scene, code: str) -> None:
    gate.ssh(f"{ANY}@etl", "select 1")
    command = f"update codes set label = 'later' where code = '{code}'"
    waiting = begin(gate, f"{ANY}@etl", command, options=["-o", "SetEnv=TOLLHOUSE_WAIT=1"])
    ticket = _ticket(waiting)
    waiting.terminate()
    waiting.communicate(timeout=WAIT_S)
    shown = gate.ssh("gateway@etl", "show", ticket, "--json")
    assert json.loads(shown.stdout)["state"] == "pending"
    gate.ssh("gateway@approver", "approve", ticket, "--reason", "test")
    assert gate.ssh(f"{ANY}@etl", command).stdout == b"UPDATE 1\n"
    assert gate.ssh(f"{ANY}@etl", command).returncode == 75


def _ticket(waiting: subprocess.Popen[bytes]) -> str:
    """The ticket that a waiting ssh printed."""
    assert waiting.stderr is not None
    reads = waiting.stderr
    told = b""

    def printed() -> bool:
        nonlocal told
        told += reads.readline()
        return b"Ticket T-" in told

    until("a ticket", printed)
    found = re.search(rb"Ticket (T-\d+)", told)
    assert found is not None
    return found[1].decode()
