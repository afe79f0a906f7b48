"""What the gateway says: the same facts in words and as one JSON line, hostile text inert."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from gateway.core import notice
from gateway.core.action import Action, Facts
from gateway.core.approval import BoundFields, Request, Ticket, open_ticket
from gateway.core.events import Judgement, Line
from gateway.core.mask import masked_message
from gateway.core.plan import ColumnPlan, Parsed, ResultPlan, Unit
from gateway.core.verdict import Approval, Verdict
from gateway.errors import (
    BadCommand,
    Denied,
    GatewayFault,
    RecorderFault,
    TargetUnavailable,
    TollhouseError,
)
from tests.tickets import ETL, NOW

SSN = "536-22-8726"
HOSTILE = "a\x1b]0;owned\x07b\u202ec\u2028d\re\x00f\u200bg"
ASK = Verdict(
    "ask", "etl-deletes", "deletes PHI rows", "ask first",
    approvals=(Approval("etl-deletes", ("phi-approvers", "dba"), 2, 1800, 1000),),
)  # fmt: skip
COLUMNS = (
    ColumnPlan("id", masked=False),
    ColumnPlan("ssn", masked=True, kind="ssn", why="ssn ← patients.ssn"),
)


def judged(verdict: Verdict = ASK, *results: ResultPlan) -> Judgement:
    line = Line(b"delete from claims", "single")
    fields = BoundFields(line.text, "claims-db", "claims", "w", ETL.id, "p", "m", "c")
    actions = (Action("delete", "table", "claims.public.claims", Facts(phi=True)),)
    results = results or (ResultPlan(COLUMNS, touches_phi=True, returns="rows"),)
    parsed = Parsed((Unit(line.text, results),), actions, "delete …", writes=True)
    return Judgement(line, parsed, verdict, fields, "writer")


def ticket(verdict: Verdict = ASK) -> Ticket:
    found = judged(verdict)
    asked = Request(ETL, "s-1", found.fields, "delete …", verdict)
    return open_ticket(asked, 7, b"s" * 32, NOW)


def words(error: TollhouseError) -> str:
    return notice.refusal(error, None, as_json=False).data.decode()


def fields(error: TollhouseError, judgement: Judgement | None = None) -> dict[str, Any]:
    line = notice.refusal(error, judgement, as_json=True).data.decode()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    found: dict[str, Any] = json.loads(line)
    return found


def test_a_refusal_in_words() -> None:
    assert words(Denied("no permit covers it", "use a migration", "no-ddl")) == (
        "tollhouse: denied [no-ddl]: no permit covers it\n  What to do: use a migration\n"
    )
    assert words(Denied("no", rule="x")) == "tollhouse: denied [x]: no\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (BadCommand("r", rule="x"), "cannot read this command [x]: r"),
        (TargetUnavailable("r", rule="x"), "target unavailable [x]: r"),
        (GatewayFault("r", rule="x"), "gateway error [x]: r"),
        (RecorderFault("r", rule="x"), "gateway error [x]: r"),
    ],
)
def test_each_kind_has_its_words(error: TollhouseError, said: str) -> None:
    assert words(error) == f"tollhouse: {said}\n"


def test_a_refusal_as_json_has_the_fields_of_a_verdict() -> None:
    error = Denied("no permit covers it", "use a migration", "no-ddl")
    found = fields(error)
    assert found == {
        "type": "refusal", "exit_code": 77, "verdict": "deny", "rule": "no-ddl",
        "reason": "no permit covers it", "advice": "use a migration", "digest": None,
        "actions": [], "masked_columns": [], "approval": None,
    }  # fmt: skip


def test_a_refusal_after_a_judgement_names_its_actions() -> None:
    deny = Verdict("deny", "no-ddl", "forbidden")
    found = fields(Denied("forbidden", rule="no-ddl"), judged(deny))
    assert [action["verb"] for action in found["actions"]] == ["delete"]
    assert found["masked_columns"] == [{"index": 1, "name": "ssn", "why": "ssn ← patients.ssn"}]


def test_a_fault_wins_over_the_verdict_that_came_before_it() -> None:
    allow = Verdict("allow", "reads", "permitted")
    found = fields(TargetUnavailable("no answer", "try again", "target.connect"), judged(allow))
    assert (found["rule"], found["reason"]) == ("target.connect", "no answer")
    assert (found["exit_code"], found["advice"]) == (69, "try again")


def test_a_held_line_in_words() -> None:
    text = notice.held(judged(), ticket(), waits=False, as_json=False).data.decode()
    until = NOW + timedelta(days=1)
    assert text == (
        "tollhouse: held [etl-deletes]: deletes PHI rows\n"
        "  Ticket T-7 needs approval by 2 of phi-approvers or dba, "
        f"until {until:%Y-%m-%d %H:%M} UTC.\n"
        "  Send the same command again once it is granted; to wait for that: "
        "ssh gateway@… wait T-7\n"
    )
    waiting = notice.held(judged(), ticket(), waits=True, as_json=False).data.decode()
    assert "Waiting for the decision" in waiting
    assert "Send the same command" not in waiting


def test_a_held_line_as_json() -> None:
    held = ticket()
    found = json.loads(notice.held(judged(), held, waits=True, as_json=True).data)
    assert (found["type"], found["exit_code"], found["verdict"]) == ("held", 75, "ask")
    assert (found["ticket"], found["digest"], found["waits"]) == ("T-7", held.digest, True)
    assert found["approval"]["quorum"] == 2
    assert found["expires_at"] == held.answer_by.isoformat()
    assert found["wait_with"].endswith("wait T-7")


def test_hostile_text_can_only_be_read() -> None:
    asked = replace(ticket(), reason=HOSTILE)
    for text in (
        words(Denied(HOSTILE, HOSTILE, "x")),
        notice.words(HOSTILE, HOSTILE).data.decode(),
        notice.held(judged(), asked, waits=False, as_json=False).data.decode(),
    ):  # fmt: skip
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "a\\u{1b}]0;owned\\u{7}b\\u{202e}c\\u{2028}d\\u{d}e\\u{0}f\\u{200b}g" in text
        assert len(text.splitlines()) <= 3


def test_hostile_text_does_not_leave_its_json_string() -> None:
    for text in (HOSTILE, '"}\n{"type": "x"}', "\ud800", SSN):
        raw = notice.refusal(Denied(text, text, "x"), None, as_json=True).data
        assert raw.count(b"\n") == 1
        assert b"\x1b" not in raw
        assert json.loads(raw)["type"] == "refusal"


def test_phi_in_a_notice_is_masked() -> None:
    for as_json in (False, True):
        said = notice.refusal(Denied(f"near {SSN}", f"not {SSN}", "x"), None, as_json=as_json)
        assert SSN not in said.data.decode()
        assert "[SSN]" in said.data.decode()


def test_the_childs_stderr_as_json_lines() -> None:
    data = notice.stderr_lines(masked_message('ERROR:  "x"\nLINE 1: é\n'))
    lines = [json.loads(line) for line in data.data.decode().splitlines()]
    assert lines == [
        {"type": "stderr", "text": 'ERROR:  "x"'},
        {"type": "stderr", "text": "LINE 1: é"},
    ]
    assert not notice.stderr_lines(masked_message(""))


def test_masked_columns_of_all_statements_and_unknown_ones() -> None:
    unknown = ResultPlan(None, touches_phi=True, returns="rows")
    tag = ResultPlan(None, touches_phi=False, returns="tag")
    known = ResultPlan(COLUMNS, touches_phi=True, returns="rows")
    found = notice.masked_columns(judged(ASK, tag, unknown, known))
    assert [(column["index"], column["name"]) for column in found] == [(None, "*"), (1, "ssn")]


def test_empty_lines_are_left_out() -> None:
    assert notice.words("one", "", "two").data == b"tollhouse: one\n  two\n"
