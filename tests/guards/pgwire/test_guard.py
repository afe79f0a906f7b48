"""The guard's conversation, played from both sides without a socket."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.plan import ColumnPlan, CopyOut, ResultPlan, Unit
from gateway.errors import GuardBroken
from gateway.guards.pgwire import codec
from gateway.guards.pgwire.codec import frame
from gateway.guards.pgwire.guard import Guard, GuardSettings, Phase
from gateway.guards.pgwire.outputs import (
    CatalogChanged,
    ChildDone,
    ChildReady,
    Output,
    RowsExceeded,
    ServerGone,
    ToChild,
    ToServer,
    UnitDone,
    UnitStarted,
    WireTicket,
)
from tests.guards.pgwire.test_codec import row

SECRET = b"123-45-6789"
PARAMETERS = {
    "server_version": "16.14",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "search_path": "pg_catalog, public, pg_temp",
    "session_authorization": "upstream_login",
}
HIDDEN = ColumnPlan("ssn", masked=True, kind="ssn")
SHOWN = ColumnPlan("id", masked=False)
STARTUP = codec.startup({"user": "x", "database": "y"})


def rows_plan(*columns: ColumnPlan) -> ResultPlan:
    return ResultPlan(columns, touches_phi=True, returns="rows")


TAG_PLAN = ResultPlan((), touches_phi=False, returns="tag")


def described(*names: str, oid: int = 0, code: int = 0) -> bytes:
    fields = [n.encode() + b"\0" + struct.pack("!IhIhih", oid, 1, 25, -1, -1, code) for n in names]
    return frame("T", struct.pack("!h", len(names)) + b"".join(fields))


def make(text: bytes, *results: ResultPlan, **more: object) -> WireTicket:
    ticket = WireTicket("0123456789abcdef01", "Nabcdef0123456789", Unit(text, results))
    for name, value in more.items():
        object.__setattr__(ticket, name, value)
    return ticket


def greeted(ticket: WireTicket | None = None, **settings: object) -> Guard:
    guard = Guard(GuardSettings(PARAMETERS, **settings))  # type: ignore[arg-type]
    assert ChildReady() in guard.receive_child(STARTUP)
    if ticket is not None:
        guard.queue(ticket)
    return guard


def to_child(outputs: list[Output]) -> bytes:
    return b"".join(o.data for o in outputs if isinstance(o, ToChild))


def to_server(outputs: list[Output]) -> bytes:
    return b"".join(o.data for o in outputs if isinstance(o, ToServer))


ANSWER = (
    described("id", "ssn")
    + row([b"1", SECRET])
    + row([b"2", None])
    + codec.command_complete(b"SELECT 2")
    + codec.ready("I")
)
UNIT = make(b"SELECT id, ssn FROM p", rows_plan(SHOWN, HIDDEN))


def test_the_child_is_told_little_at_its_start() -> None:
    guard = Guard(GuardSettings(PARAMETERS))
    assert guard.receive_child(codec.ssl_request()) == [ToChild(b"N")]
    told = to_child(guard.receive_child(STARTUP))
    assert told.endswith(codec.frame("K", bytes(8)) + codec.ready("I"))
    assert b"16.14" in told
    assert b"upstream_login" not in told


def test_a_ticket_becomes_the_decided_bytes_and_the_sentinel_the_nonce() -> None:
    guard = greeted(UNIT)
    assert guard.receive_child(codec.query(UNIT.ticket)) == [
        UnitStarted(UNIT.id),
        ToServer(codec.query(UNIT.unit.text)),
    ]
    out = guard.receive_server(ANSWER)
    shown = to_child(out)
    assert SECRET not in shown
    assert row([b"1", b"[SSN]"]) + row([b"2", None]) in shown
    assert out[-1] == UnitDone(UNIT.id, None, "I")
    nonce = codec.command_complete(UNIT.nonce.encode()) + codec.ready("I")
    assert to_child(guard.receive_child(codec.query(UNIT.sentinel))) == nonce
    assert guard.receive_child(codec.terminate()) == [ToServer(codec.terminate()), ChildDone()]


@given(cuts=st.lists(st.integers(0, len(ANSWER)), max_size=12))
def test_the_answer_is_the_same_in_any_cut(cuts: list[int]) -> None:
    whole = greeted(UNIT)
    whole.receive_child(codec.query(UNIT.ticket))
    expected = to_child(whole.receive_server(ANSWER))
    guard = greeted(UNIT)
    for byte in codec.query(UNIT.ticket):
        guard.receive_child(bytes([byte]))
    edges = [0, *sorted(cuts), len(ANSWER)]
    told = b"".join(
        to_child(guard.receive_server(ANSWER[a:b])) for a, b in pairwise(edges) if a < b
    )
    assert told == expected


@given(child=st.binary(max_size=120), server=st.binary(max_size=200), running=st.booleans())
def test_any_bytes_raise_only_guard_broken_and_close(
    child: bytes, server: bytes, running: bool
) -> None:
    guard = greeted(UNIT)
    if running:
        guard.receive_child(codec.query(UNIT.ticket))
    for receive, data in ((guard.receive_server, server), (guard.receive_child, child)):
        try:
            receive(data)
        except GuardBroken:
            assert guard.phase is Phase.CLOSED


@pytest.mark.parametrize("letter", list("PBEDCFfHSpdcAZ"))
def test_every_other_message_of_the_child_ends_the_session(letter: str) -> None:
    guard = greeted(UNIT)
    with pytest.raises(GuardBroken):
        guard.receive_child(frame(letter, b"x\0"))
    with pytest.raises(GuardBroken):
        guard.receive_child(codec.query(UNIT.ticket))


@pytest.mark.parametrize("code", [codec.CANCEL_REQUEST, codec.PROTOCOL_3_0 + 2, 1])
def test_no_other_startup_is_served(code: int) -> None:
    guard = Guard(GuardSettings(PARAMETERS))
    with pytest.raises(GuardBroken):
        guard.receive_child(struct.pack("!II", 8, code))


def test_the_child_must_wait_for_its_answer() -> None:
    guard = greeted(UNIT)
    with pytest.raises(GuardBroken, match="did not wait"):
        guard.receive_child(codec.query(UNIT.ticket) + codec.query(UNIT.sentinel))


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (described("a") + described("a"), "more results"),
        (codec.command_complete(b"X") * 2, "more results"),
        (row([b"1"]), "rows"),
        (described("a", code=1), "binary"),
        (described("a") + row([b"1", b"2"]), "does not fit"),
        (frame("H", b"\0\0\1\0\0"), "COPY"),
        (frame("W", b"\0\0\0"), "type W"),
        (frame("1"), "type 1"),
        (frame("V", b"\0\0\0\0"), "type V"),
        (frame("s"), "type s"),
    ],
)
def test_what_the_server_may_not_say(answer: bytes, why: str) -> None:
    guard = greeted(make(b"SELECT 1", rows_plan(HIDDEN)))
    guard.receive_child(codec.query(UNIT.ticket))
    with pytest.raises(GuardBroken, match=why):
        guard.receive_server(answer)


def test_nothing_is_taken_out_of_turn() -> None:
    for message in (codec.ready("I"), row([SECRET]), codec.command_complete(b"SELECT 1")):
        with pytest.raises(GuardBroken):
            greeted(UNIT).receive_server(message)


def test_notifications_and_unlisted_settings_do_not_pass() -> None:
    guard = greeted(UNIT)
    note = frame("A", b"\0\0\0\1channel\0" + SECRET + b"\0")
    assert guard.receive_server(note + codec.parameter_status("application_name", "x")) == []
    told = guard.receive_server(codec.parameter_status("TimeZone", "U\x1bTC"))
    assert to_child(told) == codec.parameter_status("TimeZone", "U\\u{1b}TC")
    for name in ("search_path", "session_authorization"):
        with pytest.raises(GuardBroken, match=name):
            greeted().receive_server(codec.parameter_status(name, "other"))


def test_a_fingerprint_is_asked_first_and_never_told() -> None:
    ticket = make(b"SELECT 1", TAG_PLAN, catalog="aaa")
    for found, starts in ((b"aaa", True), (b"bbb", False)):
        guard = greeted(ticket, fingerprint_sql="SELECT fp")
        assert to_server(guard.receive_child(codec.query(ticket.ticket))) == codec.query(
            b"SELECT fp"
        )
        answer = described("fp") + row([found]) + codec.command_complete(b"SELECT 1")
        assert guard.receive_server(answer) == []
        out = guard.receive_server(codec.ready("I"))
        assert (UnitStarted(ticket.id) in out) is starts
        assert (CatalogChanged(ticket.id) in out) is not starts
        assert found not in to_child(out)
        assert bool(to_server(out)) is starts


def test_rows_above_the_limit_do_not_pass_and_roll_back() -> None:
    ticket = make(b"DELETE", rows_plan(HIDDEN), max_rows=1)
    guard = greeted(ticket)
    assert to_server(guard.receive_child(codec.query(ticket.ticket))) == codec.query(b"BEGIN")
    begun = codec.command_complete(b"BEGIN") + codec.ready("T")
    assert UnitStarted(ticket.id) in guard.receive_server(begun)
    rows = described("ssn") + row([SECRET]) * 3 + codec.command_complete(b"DELETE 3")
    out = guard.receive_server(rows + codec.ready("T"))
    assert to_server(out) == codec.query(b"ROLLBACK")
    assert b"[SSN]" not in to_child(out)
    assert b"DELETE 3" not in to_child(out)
    out = guard.receive_server(codec.command_complete(b"ROLLBACK") + codec.ready("I"))
    assert RowsExceeded(ticket.id, 3, 1) in out
    assert b"rolled back" in to_child(out)


def test_a_dead_server_is_told_with_a_last_word() -> None:
    guard = greeted(UNIT)
    guard.receive_child(codec.query(UNIT.ticket))
    told = guard.server_eof()
    assert b"FATAL" in to_child(told)
    assert told[-1] == ServerGone(None)
    assert guard.server_eof() == guard.child_eof() == []


def test_copy_fields_are_masked_in_any_writing() -> None:
    plan = ResultPlan((SHOWN, HIDDEN), True, "copy", CopyOut())
    for form, line, shown in (
        (CopyOut(), b"1\t123-45-6789\n", b"1\t[SSN]\n"),
        (CopyOut(), b"1\ta\\tb\\\\c\n", b"1\t[SSN]\n"),
        (CopyOut(), b"1\t\\N\n", b"1\t\\N\n"),
        (CopyOut(), b"1\t2\t3\n", b"[PHI]\t[PHI]\n"),
        (CopyOut(delimiter=b"S"), b"1Sx\n", b"1S[\\S\\SN]\n"),
        (CopyOut("csv", b",", b""), b'1,"a"",\nb"\n', b"1,[SSN]\n"),
        (CopyOut("csv", b",", b""), b'1,"open\n', b"[PHI],[PHI]\n"),
        (CopyOut("csv", b",", b"", header=True), b"id,ssn\n", b"id,ssn\n"),
        (CopyOut("csv", b",", b"", header=True), b"id,123-45-6789\n", b"id,[SSN]\n"),
    ):
        ticket = make(b"COPY", ResultPlan(plan.columns, True, "copy", form))
        guard = greeted(ticket)
        guard.receive_child(codec.query(ticket.ticket))
        out = guard.receive_server(frame("H", b"\0\0\2\0\0\0\0") + frame("d", line))
        assert to_child(out).endswith(frame("d", shown)), (form, line)
    for cut in (b"1\t2", b"1\t2\n3\t4\n"):
        guard = greeted(make(b"COPY", plan))
        guard.receive_child(codec.query(UNIT.ticket))
        with pytest.raises(GuardBroken, match="cut"):
            guard.receive_server(frame("H", b"\0\0\2\0\0\0\0") + frame("d", cut))


@pytest.mark.parametrize("word", ["", "short", "x" * 15, "a" * 20 + "'", "ü" * 20])
def test_a_weak_or_used_id_is_refused(word: str) -> None:
    with pytest.raises(GuardBroken):
        greeted().queue(WireTicket(word, "N" * 20, UNIT.unit))
    with pytest.raises(GuardBroken):
        greeted(UNIT).queue(UNIT)
