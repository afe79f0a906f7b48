"""``core.mask.painted``: the last search, and the closed set of what may leave."""

from __future__ import annotations

import pytest

from gateway.core.mask import painted
from gateway.core.screen.controls import (
    Column,
    Down,
    Fixed,
    Lines,
    Mode,
    Segment,
    Style,
    Text,
    Up,
)


def test_each_control_is_its_sequence() -> None:
    segments: list[Segment] = [
        Fixed.HOME, Fixed.CLEAR_BELOW, Up(3), Down(2), Column(0), Mode(25, True), Style((1, 31)),
        Text("a line", 2, 6), Lines("one\ttab\ntwo\n"), Style(()), Fixed.RETURN, Fixed.FEED,
    ]  # fmt: skip
    assert painted(segments).data == (
        b"\x1b[H\x1b[J\x1b[3A\x1b[2B\x1b[1G\x1b[?25h\x1b[0;1;31mlineone\ttab\r\ntwo\r\n\x1b[0m\r\n"
    )


def test_what_the_screen_missed_is_hidden_by_its_whole_line() -> None:
    line = "x 123-45-6789 y"
    pieces: list[Segment] = [Text(line, 0, 5), Style((1,)), Text(line, 5, 15)]
    assert painted(pieces).data.decode() == "x ███\x1b[0;1m████████ y"
    assert painted([Lines(line + "\nok\n")]).data.decode() == "x ███████████ y\r\nok\r\n"
    # Hiding one thing can uncover the next.
    uncovered = painted([Lines("dob 1980-01-31123-45-6789\n")]).data.decode()
    assert "6789" not in uncovered


def test_text_cannot_carry_a_control() -> None:
    for char in "\x1b\x07\x00\x7f\x9b\r\u202e\u200b\u00ad":
        assert painted([Text(f"a{char}b", 0, 3)]).data.decode() == "a█b"
    assert painted([Text("a\nb\tc", 0, 5)]).data.decode() == "a\ufffdb\ufffdc"


def test_nothing_else_is_painted() -> None:
    for segment in (b"raw", "raw", None, 3):
        with pytest.raises(TypeError):
            painted([segment])  # type: ignore[list-item]
    for control in (Mode(1000, True), Up(10_000), Column(-2), Style((-1,))):
        with pytest.raises(ValueError):
            painted([control])
