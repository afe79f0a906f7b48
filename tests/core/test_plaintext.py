from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.plaintext import SEQUENCE_LIMIT_CHARS, Cleaner, positions, shadow

SHADOWS = [
    ("plain | text\t1", b"plain | text\t1"),
    ("１２３ ٣٤ ೬ ² ①", b"123 34 6 2 1"),
    ("‐‑‒–—―−－", b"--------"),
    ("a\u00a0b\u2003c\u3000d", b"a b c d"),
    ("│┃", b"||"),
    ("ａ＠ｂ．ｃ", b"a@b.c"),
    ("é日я", b"xxx"),
    ("→👍", b";;"),
    ("1\u00ad2\u200b3\u03014\ufe0f5\r6", b"123456"),
]


@pytest.mark.parametrize(("text", "seen"), SHADOWS)
def test_the_shadow_of_a_text(text: str, seen: bytes) -> None:
    assert shadow(text) == seen


@given(st.text())
def test_each_byte_of_a_shadow_has_its_place(text: str) -> None:
    seen, places = shadow(text), positions(text)
    assert len(seen) == len(places)
    assert places == sorted(set(places))
    assert seen == b"".join(shadow(text[place]) for place in places)


SEQUENCES = [
    "\x1b[31m", "\x1b[?1049h", "\x1b[1;2;3 q", "\x1b]0;t\x07", "\x1b]8;;http://x\x1b\\",
    "\x1bPq#0\x1b\\",
    "\x1bXsos\x1b\\", "\x1b^pm\x9c", "\x1b_apc\x18", "\x1b(B", "\x1b#8", "\x1bc", "\x1b7", "\x9b2J",
    "\x9d0;t\x07", "\x90q\x9c", "\x1b[" + "1;" * 2_000 + "m", "\x1b]0;" + "t" * 4_000 + "\x07",
    "\x1b\x1b[0m", "\x1b]0;a\x1b[1m", "\x00\x07\x08\x0b\x0c\x7f\x85\u202e\u2028\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("sequence", SEQUENCES, ids=lambda text: ascii(text[:12]))
def test_a_sequence_is_dropped_whole_and_cut_anywhere(sequence: str) -> None:
    for cut in range(0, len(sequence) + 1, max(1, len(sequence) // 50)):
        cleaner = Cleaner()
        text = f"a{sequence}\nb"
        assert cleaner.clean(text[: cut + 1]) + cleaner.clean(text[cut + 1 :]) == "a\nb"
        assert cleaner.idle


@given(
    st.lists(
        st.sampled_from([*SEQUENCES[:16], "\x1b", "\x9d", "text", "\n", "\\", "1;", "m"]),
        max_size=12,
    )
)
def test_cleaning_character_by_character_is_the_same(pieces: list[str]) -> None:
    text = "".join(pieces) + "\n"
    whole, single = Cleaner(), Cleaner()
    assert "".join(single.clean(char) for char in text) == whole.clean(text)


def test_a_sequence_without_end_is_held_for_so_long_only() -> None:
    cleaner = Cleaner()
    shown = "".join(cleaner.clean("y") for _ in range(1))
    for char in "\x1b]" + "y" * (2 * SEQUENCE_LIMIT_CHARS):
        shown += cleaner.clean(char)
    assert SEQUENCE_LIMIT_CHARS - 8 < len(shown) <= SEQUENCE_LIMIT_CHARS + 1


def test_a_line_feed_ends_a_sequence() -> None:
    cleaner = Cleaner()
    assert cleaner.clean("\x1b]0;title\nnext") == "\nnext"
    assert cleaner.clean("\x1b[") == ""
    assert not cleaner.idle
    assert cleaner.clean("1m\nlast") == "\nlast"
    assert cleaner.idle
