from __future__ import annotations

import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.mask import findings
from gateway.core.patterns import Searcher
from gateway.core.screen.screen import Grid
from gateway.core.screen.terminal import COLS_BOUNDS, ROWS_BOUNDS, MaskedTerminal
from tests.core.screen.reference import Reference, Session, play

TABLE = b" id | ssn         | status\r\n----+-------------+--------\r\n"


def test_plain_lines_leave_as_lines() -> None:
    session = Session().feed(TABLE + b"  1 | 123-45-6789 | open\r\n")
    assert session.sent.decode() == (TABLE.decode() + "  1 | [SSN]██████ | open\r\n"), (
        "no cursor movement, so scrollback and copying stay native"
    )
    assert session.agrees()


def test_a_line_cut_between_two_reads_leaves_as_a_line() -> None:
    session = Session().feed(TABLE + b"  1 | no").feed(b"thing here | open\r\nnext\r\n")
    assert session.sent == TABLE + b"  1 | nothing here | open\r\nnext\r\n"


def test_lines_leave_as_lines_again_after_a_screen() -> None:
    session = Session().feed(b"\x1b[31mred\x1b[0m\r\none\r\n").feed(b"two\r\nthree\r\n")
    assert session.sent.endswith(b"two\r\nthree\r\n")
    assert session.agrees()


def test_a_screen_is_built_from_the_last_lines() -> None:
    for count in (3, 10, 11, 200):
        lines = b"".join(b"line %d\r\n" % number for number in range(count))
        session = Session(40, 10).feed(lines).feed(b"\x1b[2A\x1b[5Gq").finish()
        assert session.agrees()
        assert f"lineq{count - 2}"[:5] in session.reader.rows()[min(count, 9) - 2]


def test_a_session_may_begin_in_the_middle_of_a_window() -> None:
    session = Session(40, 10)
    session.reader.feed(b"$ ls\r\n$ ssh gate\r\n")
    session.feed(b"\x1b[1m=> \x1b[0msel\r\x1b[3C\x1b[Kselect\r\n1 row\r\n\x1b[A\x1b[K2 rows")
    assert session.reader.rows()[:4] == ["$ ls", "$ ssh gate", "=> select", "2 rows"]
    session.feed(b"\r\n" * 9 + b"\x1b[1mend")
    assert session.reader.rows() == session.terminal.shown()


def test_an_absolute_move_claims_the_whole_window() -> None:
    session = Session(40, 6)
    session.reader.feed(b"$ ssh gate\r\n")
    session.feed(b"one\r\n\x1b[3;5Hthree")
    assert session.reader.rows() == ["one", "", "    three", "", "", ""]


def test_colours_reach_the_reader() -> None:
    session = Session(20, 2).feed(b"\x1b[31mred\x1b[0m \x1b[38;5;200mx\x1b[48:2::1:2:3my").finish()
    assert session.reader.colours(0)[:5] == ["red"] * 3 + ["default", "ff00d7"]
    assert b"\x1b[0;38;5;200;48;2;1;2;3m" in session.sent


def test_modes_of_the_clients_terminal() -> None:
    session = Session().feed(b"\x1b[?2004h\x1b[?1h\x1b[?25l\x1b[?1000h\x1b[?9999h")
    assert session.sent == b"\x1b[?2004h\x1b[?1h\x1b[?25l"
    session.finish()
    assert session.sent.endswith(b"\x1b[?1l\x1b[?25h\x1b[?2004l")


def test_the_alternate_screen_gives_the_main_one_back() -> None:
    session = Session(40, 6).feed(b"one\r\ntwo 123-45-6789\x1b[?1049h\x1b[2;2HALT 123-45-6789")
    assert session.reader.rows()[1] == " ALT [SSN]██████"
    assert session.agrees()
    session.feed(b"\x1b[?1049l!")
    assert session.reader.rows()[:2] == ["one", "two [SSN]██████!"]
    assert session.feed(b"\x1b[?1049hleft on").finish().agrees()
    assert session.reader.rows()[0] == "one"


MOVES: list[tuple[bytes, list[str]]] = [
    (b"abc\x1b[2D\x1b[@x", ["axbc", "", ""]),
    (b"abcdef\x1b[4D\x1b[2P", ["abef", "", ""]),
    (b"abcdef\x1b[4D\x1b[2X", ["ab  ef", "", ""]),
    (b"one\r\ntwo\r\nsix\x1b[2A\x1b[L", ["", "one", "two"]),
    (b"one\r\ntwo\r\nsix\x1b[2A\x1b[M", ["two", "six", ""]),
    (b"one\r\ntwo\r\nsix\x1b[S", ["two", "six", ""]),
    (b"one\r\ntwo\r\nsix\x1b[T", ["", "one", "two"]),
    (b"one\r\ntwo\r\nsix\x1b[1;1H\x1bM", ["", "one", "two"]),
    (b"one\r\ntwo\r\nsix\x1b[1;2r\x1b[2;1H\n!", ["two", "!", "six"]),
    (b"one\r\ntwo\r\nsix\x1b[2;1H\x1b[J", ["one", "", ""]),
    (b"one\r\ntwo\r\nsix\x1b[2;2H\x1b[1J", ["", "  o", "six"]),
    (b"one\x1b[2Jx", ["   x", "", ""]),
    (b"ab\x1b[5J\x1b[9K\x1b[3bc", ["abbbbc", "", ""]),
    (b"\x1b[?7l0123456789ABC\x1b[?7h", ["012345678C", "", ""]),
    (b"0123456789AB", ["0123456789", "AB", ""]),
    (b"012345678" + "日".encode(), ["012345678", "日", ""]),
    ("日本\r\x1b[Cx".encode(), [" x本", "", ""]),
    ("日本\r\x1b[2Cx".encode(), ["日x", "", ""]),
    ("e\u0301a\u0301\u0301\u0301\u0301".encode(), ["éá\u0301\u0301", "", ""]),
    ("a\u00adb\u200bc\u202ed\u2060e".encode(), ["abcde", "", ""]),
    (b"a\tb\t\tc", ["a       bc", "", ""]),
    (b"a\nb", ["a", " b", ""]),
    (b"\x1b[2;3Hx\x1b7\x1b[Hy\x1b8z", ["y", "  xz", ""]),
    (b"\x1b8x\x1b[99;99Hy", ["x", "", "         y"]),
]


@pytest.mark.parametrize(("data", "rows"), MOVES)
def test_moves(data: bytes, rows: list[str]) -> None:
    session = play([data], 10, 3)
    assert session.reader.rows() == rows
    assert session.agrees()
    assert play([data[at : at + 1] for at in range(len(data))], 10, 3).reader.rows() == rows


PIECES = [
    b"text ", b"123-45-6789", b"12", b"ann@example.org", b"\r\n", b"\r\n\r\n", b"\r", b"\n", b"\b",
    b"\t", b"x" * 33, "日本".encode(), "e\u0301\u00ad\u200b".encode(), "│".encode(), b"\x1b[A",
    b"\x1b[3B", b"\x1b[5C", b"\x1b[2D", b"\x1b[H", b"\x1b[3;9H", b"\x1b[7G", b"\x1b[2d", b"\x1b[J",
    b"\x1b[1J", b"\x1b[2J", b"\x1b[3J", b"\x1b[K", b"\x1b[1K", b"\x1b[2K", b"\x1b[3X", b"\x1b[2@",
    b"\x1b[2P", b"\x1b[L", b"\x1b[2M", b"\x1b[S", b"\x1b[2T", b"\x1b[2;4r", b"\x1b[r", b"\x1b[9b",
    b"\x1b[1;31m", b"\x1b[44m", b"\x1b[m", b"\x1b7", b"\x1b8", b"\x1bM", b"\x1bD", b"\x1bE",
    b"\x1b[?7l", b"\x1b[?7h", b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?47h", b"\x1b[?47l", b"\x1b[",
    b"\x1b]0;", b"\x07", b"\x1bP", b"\x9b", b"\xff", b"\x1b[?25l", b"9" * 40, b"plain line\r\n" * 3,
]  # fmt: skip


def test_generated_streams_end_in_one_screen_however_they_are_split() -> None:
    draw = random.Random(20)
    end = time.monotonic() + 6
    for _ in range(400):
        if time.monotonic() > end:
            break
        cols, rows = draw.choice([(20, 4), (33, 7), (80, 24), (2, 1)])
        pieces = draw.choices(PIECES, k=draw.randrange(1, 40))
        whole, apart = b"".join(pieces), play(pieces, cols, rows)
        again = play([whole], cols, rows)
        assert apart.agrees(), (pieces, cols, rows)
        seen = "\n".join(row for frame in apart.frames for row in frame)
        assert not findings(seen, Searcher()), (pieces, cols, rows)
        assert again.agrees(), (pieces, cols, rows)
        assert again.reader.rows() == apart.reader.rows(), (pieces, cols, rows)
        single = play([whole[at : at + 1] for at in range(len(whole))], cols, rows)
        assert single.reader.rows() == apart.reader.rows(), (pieces, cols, rows)
        assert apart.terminal.restarts == 0, (pieces, cols, rows)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), sizes=st.lists(st.tuples(st.integers(), st.integers())))
def test_random_bytes_and_sizes(data: bytes, sizes: list[tuple[int, int]]) -> None:
    terminal = MaskedTerminal(30, 5)
    half = len(data) // 2
    terminal.feed(data[:half])
    for cols, rows in sizes[:3]:
        terminal.resize(cols % 200 - 5, rows % 60 - 5)
    terminal.feed(data[half:], echo=True)
    terminal.finish()
    assert terminal.restarts == 0


def test_resizes_keep_the_readers_screen_right() -> None:
    draw = random.Random(7)
    for _ in range(40):
        session = Session(40, 8).feed(b"\x1b[1mstart\r\n")
        for _ in range(6):
            session.feed(b"".join(draw.choices(PIECES, k=8)) + b"\x1b[1m.")
            session.resize(draw.randrange(2, 60), draw.randrange(1, 20))
            assert session.agrees()
        assert session.terminal.restarts == 0


def test_a_wrapped_line_is_wrapped_anew() -> None:
    session = Session(10, 4).feed(b"\x1b[32mone line, no PHI!").resize(20, 4)
    assert session.reader.rows()[0] == "one line, no PHI!"
    session.feed(b"!")
    assert session.reader.rows()[0] == "one line, no PHI!!"
    assert session.resize(6, 4).reader.rows() == ["one li", "ne, no", " PHI!!", ""]


def test_sizes_are_bounded() -> None:
    terminal = MaskedTerminal(0, 10**9)
    assert len(terminal.shown()) == ROWS_BOUNDS[1]
    terminal.feed(b"\x1b[1m" + b"x" * 5)
    terminal.resize(10**9, -4)
    terminal.feed(b"\x1b[9999C" + b"x")
    assert [len(row) for row in terminal.shown()] == [COLS_BOUNDS[1]]


def test_memory_is_bounded() -> None:
    terminal = MaskedTerminal(80, 24)
    flood = [b"x" * 9_000, b"\x1b7" * 4_000, b"\x1b[9999b" * 20, "\u0301".encode() * 9_000]
    flood += [b"\x1b]0;" + b"t" * 50_000, b"\x1b[9999L\x1b[9999S" * 50, b"1" * 60_000]
    for piece in flood:
        terminal.feed(piece)
    tracemalloc.start()
    for _ in range(3):
        for piece in flood:
            terminal.feed(piece)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 3_000_000


def test_a_screen_that_fails_begins_again_and_shows_nothing_raw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = Session(40, 6).feed(b"\x1b[1mbefore 123-45-67")

    def fail(self: Grid, text: str, *, echo: bool = False) -> None:
        raise IndexError("as pyte does")

    with monkeypatch.context() as patch:
        patch.setattr(Grid, "write", fail)
        session.feed(b"secret 123-45-6789")
    assert session.terminal.restarts == 1
    assert session.reader.rows() == [""] * 6
    assert b"secret" not in session.sent
    session.feed(b"after").finish()
    assert session.reader.rows()[0] == "after"
    assert session.agrees()


def test_what_masking_uncovers_is_masked_too() -> None:
    for lead in (b"", b"\x1b[1m"):
        session = Session().feed(lead + b"dob 1980-01-31123-45-6789").finish()
        assert session.reader.rows()[0] == "dob [DATE]████[SSN]██████"


def test_counts_are_by_pattern_and_do_not_grow_by_repainting() -> None:
    terminal = MaskedTerminal(80, 24)
    terminal.feed(b"\x1b[1m 123-45-6789 ann@example.org \r\n")
    for _ in range(5):
        terminal.feed(b"\x1b[Ax\r\n\x1b[K")
    terminal.feed(b"1\r\n2\r\n123-45-6789\r\n")
    assert terminal.counts == {"ssn": 2, "email": 1}


def test_the_cursor_stands_where_the_child_left_it() -> None:
    for data, place in ((b"\x1b[3;4Habc\x1b[D", (2, 5)), (b"ab\r\n\x1b[Acd\r", (0, 0))):
        session = Session(40, 6).feed(data)
        assert session.reader.cursor() == place


def test_reference_is_a_judge() -> None:
    reference = Reference(20, 2)
    reference.feed(b"123-45-6789")
    assert reference.rows()[0] == "123-45-6789"
