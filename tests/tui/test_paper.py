"""The layout: every character is there, no row is too wide, and what deceives is told."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from gateway.core.display import show
from tests.tui.memory import NOW, ticket
from tui.paper import cautions, command_rows, fit, fold, span, ticket_rows

TEXT = st.text(st.characters(exclude_categories=()), max_size=200)
WIDTHS = st.integers(8, 200)


@given(TEXT.map(show), WIDTHS)
def test_folded_rows_join_to_the_text(text: str, width: int) -> None:
    rows = fold(text, width)
    assert "".join(rows) == text
    assert all(cell_len(row) <= width for row in rows)


@given(TEXT.map(show), st.integers(0, 60))
def test_fit_is_exact_and_says_that_it_cut(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert cell_len(fitted) == width
    if cell_len(text) > width > 0:
        assert fitted.rstrip(" ").endswith("…")
    elif width:
        assert fitted.rstrip(" ") == text.rstrip(" ")


@given(TEXT, st.integers(30, 200))
def test_a_ticket_is_whole_and_never_too_wide(text: str, width: int) -> None:
    view = ticket(1, text or "x", why=text, identity=text, reason=text)
    rows = ticket_rows(view, NOW, width)
    assert all(cell_len(row.plain) <= width for row in rows)
    assert not any(char in row.plain for row in rows for char in "\x1b\n\r\u202e\u200b")
    parts = [row.plain.partition("│ ")[2] for row in command_rows(view.command, width)[1:]]
    whole = show(view.command, newlines=True).replace("\t", "    ").replace("\n", "")
    assert "".join(parts) == whole


def test_only_a_line_of_the_command_has_a_number() -> None:
    rows = [row.plain for row in command_rows("a" * 50 + "\n 2 │ not a line", 40)]
    assert rows[0].startswith("Command: 2 lines, 66 characters")
    assert [row[:4] for row in rows[1:]] == [" 1 │", "   │", " 2 │"]


DECEIVING = {
    "status = 'p\u0430id'": "letters that pass for others in p\u0430id",
    "a\u202eb": "1 hidden or control",
    "a\x1b[2J\u200b": "2 hidden or control",
    "שלום": "right-to-left",
    "a\n\n\n\nb": "long gaps",
    "a" + " " * 30 + "b": "long gaps",
}


@pytest.mark.parametrize(("text", "told"), DECEIVING.items())
def test_cautions(text: str, told: str) -> None:
    assert told in "; ".join(cautions(text))
    assert told in " ".join(row.plain for row in ticket_rows(ticket(1, text), NOW, 100))


def test_plain_text_needs_no_caution() -> None:
    assert cautions("delete from claims\n  where name = 'Zoë' and note = '日本'\n") == ()


def test_deceiving_words_stand_out_where_they_are() -> None:
    (row,) = command_rows("where status = 'p\u0430id'", 60)[1:]
    marked = [row.plain[s.start : s.end] for s in row.spans if "reverse" in str(s.style)]
    assert marked == ["p\u0430id"]


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (-5, "0s", "0s"),
        (59, "59s", "59s"),
        (61, "1m 1s", "1m"),
        (1500, "25m", "25m"),
        (7260, "2h 1m", "2h"),
        (90_000, "1d 1h", "1d"),
    ],
)
def test_spans(seconds: int, long: str, short: str) -> None:
    assert span(timedelta(seconds=seconds)) == long
    assert span(timedelta(seconds=seconds), short=True) == short
