from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import display

# Each hostile string with what a reader must see instead.
HOSTILE = [
    ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
    ("\x1b]8;;https://evil.example\x07ok\x1b]8;;\x07", None),
    ("\x9b2J", "\\u{9b}2J"),
    ("nul\0byte", "nul\\u{0}byte"),
    ("bell\a back\b", "bell\\u{7} back\\u{8}"),
    ("two\nlines\rone", "two\\u{a}lines\\u{d}one"),
    ("tab\tbed", "tab\\u{9}bed"),
    ("user\u202egnp.exe", "user\\u{202e}gnp.exe"),
    ("\u2066iso\u2069", "\\u{2066}iso\\u{2069}"),
    ("ze\u200bro\u200d\ufeff", "ze\\u{200b}ro\\u{200d}\\u{feff}"),
    ("soft\u00adhyphen", "soft\\u{ad}hyphen"),
    ("no\u00a0break\u2003em", "no\\u{a0}break\\u{2003}em"),
    ("line\u2028para\u2029", "line\\u{2028}para\\u{2029}"),
    ("priv\ue000ate", "priv\\u{e000}ate"),
    ("half\ud800pair", "half\\u{d800}pair"),
    ("tag\U000e0041", "tag\\u{e0041}"),
    ("var\ufe0fiant", "var\\u{fe0f}iant"),
    ("unassigned\u0378\uffff", "unassigned\\u{378}\\u{ffff}"),
    ("blank\u3164\u2800", "blank\\u{3164}\\u{2800}"),
    ("z\u0301\u0301\u0301\u0301", "z\u0301\u0301\\u{301}\\u{301}"),
    ("[@click=app.approve()]go[/]", "[@click=app.approve()]go[/]"),
    ("'[/b", "'[/b"),
    ("<script>alert(1)</script>", "<script>alert(1)</script>"),
    ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
    ("plain ASCII, é, 日本, 👍", "plain ASCII, é, 日本, 👍"),
]


@pytest.mark.parametrize(("text", "expected"), HOSTILE)
def test_hostile_text_is_written_out(text: str, expected: str | None) -> None:
    shown = display.show(text)
    if expected is not None:
        assert shown == expected
    _assert_readable(shown)
    _assert_readable(display.html(text))
    _assert_readable(display.csv_cell(text))
    assert display.show(shown) == shown


def _assert_readable(shown: str) -> None:
    for char in shown:
        assert char == " " or unicodedata.category(char) not in (
            "Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs",
        )  # fmt: skip
    shown.encode("utf-8")


@given(st.text(st.characters()))
def test_any_text_is_one_readable_line(text: str) -> None:
    _assert_readable(display.show(text))


@given(st.text(st.characters()), st.integers(0, 40))
def test_a_limit_is_kept_and_what_is_cut_is_counted(text: str, limit: int) -> None:
    whole, shown = display.show(text), display.show(text, limit=limit)
    if len(whole) <= limit:
        assert shown == whole
        return
    kept, _, note = shown.rpartition(" … (")
    assert len(kept) <= limit
    assert whole.startswith(kept)
    left = int(note.removesuffix(" more characters)"))
    assert kept == display.show(text[: len(text) - left])


def test_an_escape_is_never_cut_in_two() -> None:
    assert display.show("ab\x1bcd", limit=4) == "ab … (3 more characters)"
    assert display.show("ab\x1bcd", limit=8) == "ab\\u{1b} … (2 more characters)"
    with pytest.raises(ValueError, match="negative"):
        display.show("x", limit=-1)


def test_newlines_stay_only_where_they_are_asked_for() -> None:
    assert display.show("a\n\tb\r", newlines=True) == "a\n\tb\\u{d}"


def test_html_cannot_leave_its_place() -> None:
    assert display.html('<b title="\'">&') == "&lt;b title=&quot;&#x27;&quot;&gt;&amp;"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1", "  =1", "|x", "%x", "=cmd|' /C calc'!A0"],
)
def test_no_cell_is_a_formula(text: str) -> None:
    out = io.StringIO()
    csv.writer(out).writerow([display.csv_cell(text)])
    (row,) = csv.reader([out.getvalue()])
    assert row[0].startswith("'")


@pytest.mark.parametrize("text", ["", " ", "1", "patients", "a=b", "é"])
def test_a_harmless_cell_is_left_as_it_is(text: str) -> None:
    assert display.csv_cell(text) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("select * from p\u0430tients", ("p\u0430tients",)),  # Cyrillic a
        ("\u0440\u0430\u0443\u0440\u0430", ("\u0440\u0430\u0443\u0440\u0430",)),  # all Cyrillic
        ("\u03bf\u03bd", ("\u03bf\u03bd",)),  # Greek
        ("\uff50atients", ("\uff50atients",)),  # full-width p
        ("drop DROP patients_2026", ()),
        ("Müller Ærø", ()),
        ("пациенты", ()),
        ("ασθενείς", ()),
        ("日本のデータ table1日本", ()),
        ("p\u0430 p\u0430", ("p\u0430",)),
    ],
)
def test_words_that_pass_for_others_are_flagged(text: str, words: tuple[str, ...]) -> None:
    assert display.confusables(text) == words
