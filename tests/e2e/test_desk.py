"""The desk: ``ssh gateway@…``, its verbs, their JSON and their exit codes."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.processes import WAIT_S, begin
from tests.e2e.scene import Scene
from tests.servers import MAJORS

ANY = f"db{MAJORS[-1]}"


def _ask(gate: Scene, identity: str, *words: str) -> dict[str, Any]:
    done = gate.ssh(f"gateway@{identity}", *words, "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr == b""
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _hold(gate: Scene, command: str) -> str:
    held = gate.ssh(f"{ANY}@etl", command)
    assert held.returncode == 75, held.stderr.decode()
    found = re.search(rb"Ticket (T-\d+)", held.stderr)
    assert found is not None
    return found[1].decode()


def test_whoami(gate: Scene) -> None:
    told = _ask(gate, "etl", "whoami")
    assert (told["identity"], told["kind"], told["roles"]) == ("etl", "machine", ["etl"])
    assert told["targets"] == [*(f"db{major}" for major in MAJORS), "down"]
    assert [human.rpartition("|")[2] for human in told["accountable"]] == ["owner"]
    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(minutes=15)
    words = gate.ssh("gateway@etl", "whoami").stdout.decode()
    assert "identity     etl\n" in words


def test_targets(gate: Scene) -> None:
    told = _ask(gate, "etl", "targets")["targets"]
    assert [each["target"] for each in told] == [*(f"db{major}" for major in MAJORS), "down"]
    assert [each["writes"] for each in told] == [*(True for _ in MAJORS), False]
    assert _ask(gate, "approver", "targets")["targets"] == []
    assert "opens no target" in gate.ssh("gateway@approver", "targets").stdout.decode()


def test_a_ticket_from_its_hold_to_its_one_use(gate: Scene) -> None:
    command = "delete from claims where id = 100001"
    ticket = _hold(gate, command)
    assert _hold(gate, command) == ticket
    for identity in ("etl", "approver", "approver2"):
        assert ticket in [each["ticket"] for each in _ask(gate, identity, "tickets")["tickets"]]
        assert ticket in gate.ssh(f"gateway@{identity}", "tickets").stdout.decode()
    shown = _ask(gate, "approver", "show", ticket)
    assert (shown["state"], shown["identity"], shown["target"]) == ("pending", "etl", ANY)
    assert shown["command"] == command
    assert shown["needs"] == [{"groups": ["phi-approvers"], "count": 1}]
    assert command in gate.ssh("gateway@approver", "show", ticket).stdout.decode()
    granted = _ask(gate, "approver", "approve", ticket, "--reason", "a fine day")
    assert (granted["state"], granted["needs"]) == ("granted", [])
    (vote,) = granted["votes"]
    assert (vote["voter"], vote["approve"], vote["reason"]) == ("approver", True, "a fine day")
    assert gate.ssh("gateway@etl", "wait", ticket).returncode == 0
    done = gate.ssh(f"{ANY}@etl", command)
    assert (done.returncode, done.stdout) == (0, b"DELETE 0\n")
    assert _ask(gate, "etl", "show", ticket)["state"] == "spent"
    assert ticket not in json.dumps(_ask(gate, "etl", "tickets"))
    assert ticket in json.dumps(_ask(gate, "etl", "tickets", "--all"))
    # Once only; and the grant was for these very bytes.
    assert _hold(gate, command) != ticket


def test_a_grant_is_for_the_very_bytes(gate: Scene) -> None:
    gate.grant(f"{ANY}@etl", "delete from claims where id = 100002")
    assert gate.ssh(f"{ANY}@etl", "delete from claims where id = 100003").returncode == 75
    assert gate.ssh(f"{ANY}@etl", "delete  from claims where id = 100002").returncode == 75
    assert gate.ssh(f"{ANY}@etl2", "delete from claims where id = 100002").returncode == 75
    other = gate.ssh(f"db{MAJORS[0]}@etl", "delete from claims where id = 100002")
    assert other.returncode == 75
    assert gate.ssh(f"{ANY}@etl", "delete from claims where id = 100002").returncode == 0


def test_a_denied_ticket(gate: Scene) -> None:
    command = "delete from claims where id = 100004"
    ticket = _hold(gate, command)
    told = _ask(gate, "approver2", "deny", ticket, "--reason", "no")
    assert told["state"] == "refused"
    waited = gate.ssh("gateway@etl", "wait", ticket)
    assert (waited.returncode, waited.stdout) == (77, f"Ticket {ticket} is refused.\n".encode())
    late = gate.ssh("gateway@approver", "approve", ticket, "--reason", "yes")
    assert late.returncode == 77
    assert _hold(gate, command) != ticket


def test_a_cancelled_ticket(gate: Scene) -> None:
    ticket = _hold(gate, "delete from claims where id = 100005")
    assert gate.ssh("gateway@approver", "cancel", ticket).returncode == 77
    assert _ask(gate, "etl", "cancel", ticket)["state"] == "cancelled"
    assert gate.ssh("gateway@etl", "wait", ticket).returncode == 77


def test_waiting_ends_with_the_decision(gate: Scene) -> None:
    ticket = _hold(gate, "delete from claims where id = 100006")
    waiting = begin(gate, "gateway@etl", "wait", ticket, "--json")
    with pytest.raises(Exception, match="timed out"):
        waiting.communicate(timeout=0.5)
    gate.ssh("gateway@approver", "approve", ticket, "--reason", "go")
    out, err = waiting.communicate(timeout=WAIT_S)
    assert (waiting.returncode, err) == (0, b"")
    assert json.loads(out)["state"] == "granted"


def test_who_may_not_vote(gate: Scene) -> None:
    ticket = _hold(gate, "delete from claims where id = 100007")
    # The machine itself, the human who answers for it, an outsider, and a person without a group.
    for identity in ("etl", "owner", "agent", "auditor"):
        done = gate.ssh(f"gateway@{identity}", "approve", ticket, "--reason", "please")
        assert (done.returncode, done.stdout) == (77, b""), identity
        assert b"tollhouse: denied [ticket." in done.stderr
    assert _ask(gate, "approver", "show", ticket)["votes"] == []


def test_foreign_tickets_are_unknown(gate: Scene) -> None:
    ticket = _hold(gate, "delete from claims where id = 100008")
    for verb in ("show", "wait"):
        done = gate.ssh("gateway@auditor", verb, ticket)
        assert done.returncode == 77
        unknown = gate.ssh("gateway@auditor", verb, "T-999999")
        assert unknown.stderr == done.stderr
    assert _ask(gate, "auditor", "tickets", "--all")["tickets"] == []


USAGE = [
    [],
    ["frobnicate"],
    ["whoami", "now"],
    ["targets", "all"],
    ["tickets", "--everything"],
    ["show"],
    ["show", "T-1", "T-2"],
    ["wait"],
    ["cancel"],
    ["approve", "T-1"],
    ["approve", "T-1", "--reason"],
    ["deny", "--reason", "no"],
    ["show", "'T-1"],
]


@pytest.mark.parametrize("words", USAGE, ids=lambda words: " ".join(words) or "nothing")
def test_usage_errors_are_64(gate: Scene, words: list[str]) -> None:
    done = gate.ssh("gateway@etl", *words, options=["-T"])
    assert (done.returncode, done.stdout) == (64, b"")
    assert b"[desk.usage]" in done.stderr
    assert b"What to do: " in done.stderr
    told = gate.ssh("gateway@etl", *words, options=["-T"], env={"TOLLHOUSE_JSON": "1"})
    (line,) = told.stderr.decode().splitlines()
    assert (told.returncode, told.stdout) == (64, b"")
    assert json.loads(line)["rule"] == "desk.usage"


def test_help_lists_every_verb(gate: Scene) -> None:
    done = gate.ssh("gateway@etl", "help")
    assert done.returncode == 0
    for verb in ("whoami", "targets", "tickets", "show", "wait", "approve", "deny", "cancel"):
        assert f"gateway@HOST {verb}" in done.stdout.decode()
