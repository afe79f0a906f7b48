from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.screen.tokens import (
    BODY_LIMIT_CHARS,
    PARAMETER_LIMIT,
    VALUE_LIMIT,
    Control,
    Op,
    Token,
    Tokeniser,
)


def tokens(*pieces: bytes) -> list[Token]:
    tokeniser = Tokeniser()
    found = [token for piece in pieces for token in tokeniser.feed(piece)]
    return joined(found + tokeniser.finish())


def joined(found: list[Token]) -> list[Token]:
    """Text that was cut is put together again."""
    out: list[Token] = []
    for token in found:
        if out and isinstance(token, str) and isinstance(out[-1], str):
            out[-1] += token
        else:
            out.append(token)
    return out


def one(op: Op, *args: int) -> list[Token]:
    return [Control(op, args)]


TABLE: list[tuple[bytes, list[Token]]] = [
    (b"plain text", ["plain text"]),
    ("naïve │ 日本".encode(), ["naïve │ 日本"]),
    (b"a\xffb\xc3", ["a\ufffdb\ufffd"]),
    (b"\r\n\t\b", [Control(op) for op in (Op.RETURN, Op.FEED, Op.TAB, Op.BACK)]),
    (b"\x00\x07\x0b\x0c\x0e\x0f\x7f", []),
    (b"\x1b[A", one(Op.UP, 0)),
    (b"\x1b[12B", one(Op.DOWN, 12)),
    ("\x9b3C".encode(), one(Op.RIGHT, 3)),
    (b"\x1b[5;7H", one(Op.PLACE, 5, 7)),
    (b"\x1b[;7f", one(Op.PLACE, 0, 7)),
    (b"\x1b[0002K", one(Op.ERASE_LINE, 2)),
    (b"\x1b[" + b"9" * 200 + b"X", one(Op.ERASE_CHARS, VALUE_LIMIT)),
    (b"\x1b[" + b"0" * 200 + b"7X", one(Op.ERASE_CHARS, 7)),
    (b"\x1b[1;31m", one(Op.STYLE, 1, 31)),
    (b"\x1b[m", one(Op.STYLE, 0)),
    (b"\x1b[38:2::1:2:3;4:3;4:0;58:5:1m", one(Op.STYLE, 38, 2, 1, 2, 3, 4, 24)),
    (b"\x1b[48:5:200m", one(Op.STYLE, 48, 5, 200)),
    (b"\x1b[?25l", one(Op.MODE, 25, 0)),
    (b"\x1b[?12;2004h", one(Op.MODE, 2004, 1)),
    (b"\x1b7\x1b8", [Control(Op.SAVE), Control(Op.RESTORE)]),
    (b"\x1bM\x1bD\x1bE", [Control(Op.REVERSE_INDEX), Control(Op.INDEX), Control(Op.NEXT_LINE)]),
    # Dropped: titles, clipboard, device strings, questions, private and unknown forms.
    (b"a\x1b]0;title\x07b", ["ab"]),
    (b"a\x1b]52;c;AAAA\x1b\\b", ["ab"]),
    (b"a\x1bP1$qm\x1b\\b\x1b_x\x1b\\c\x1b^y\x1b\\d\x1bXz\x1b\\e", ["abcde"]),
    ("a\x9d0;t\x9cb\x90q\x9cc".encode(), ["abc"]),
    (b"a\x1b[6n\x1b[c\x1b[>c\x1b[5n\x1b[?6nb", ["ab"]),
    (b"a\x1b[?5J\x1b[>4m\x1b[?1$p\x1b[2 q\x1b[!p\x1b[4h\x1b[20hb", ["ab"]),
    (b"a\x1b(0\x1b#8\x1b=\x1b>\x1bc\x1bNb", ["ab"]),
    (b"a\x1b[1;2;3;4;5Tb", ["ab"]),
    (b"a\x1b[" + b";" * PARAMETER_LIMIT + b"mb", ["ab"]),
    (b"a\x1b[1:2Hb", ["ab"]),
    # Malformed: what cannot go on ends there, and the rest is read anew.
    (b"\x1b[3\nm", [Control(Op.FEED), "m"]),
    (b"\x1b\x1b[A", one(Op.UP, 0)),
    (b"\x1b[1\x1b[2A", one(Op.UP, 2)),
    (b"\x1b[" + b"1" * (BODY_LIMIT_CHARS + 3) + b"A", ["111A"]),
    (b"\x1b]0;never ended\nnext", [Control(Op.FEED), "next"]),
    (b"\x1b]0;cut\x1b[Anext", [Control(Op.UP, (0,)), "next"]),
    (b"\x1b]0;cut\x18next", ["next"]),
    (b"\x1b]" + b"x" * 10_000 + b"\x07y", ["y"]),
    (b"a\x1b[3", ["a"]),
    (b"a\x1b", ["a"]),
]


@pytest.mark.parametrize(("data", "wanted"), TABLE)
def test_whole_byte_by_byte_and_in_random_splits(data: bytes, wanted: list[Token]) -> None:
    assert tokens(data) == wanted
    assert tokens(*(data[at : at + 1] for at in range(len(data)))) == wanted
    draw = random.Random(1)
    for _ in range(20):
        cuts = sorted(draw.choices(range(len(data) + 1), k=3))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
        assert tokens(*pieces) == wanted


GRAMMAR = st.lists(
    st.one_of(
        st.binary(max_size=6),
        st.from_regex(rb"\x1b[\[\]P(_#][0-9;:?<> ]{0,8}[@-~\x07\x1b]", fullmatch=True),
        st.sampled_from(
            [b"\r\n", b"\x1b", b"\x9b", b"\xc2\x9b", b"\x1b\\", b"text", "é日".encode()]
        ),
    ),
    max_size=20,
)


@settings(max_examples=150, deadline=None)
@given(pieces=GRAMMAR)
def test_any_bytes_give_the_same_tokens_however_they_are_split(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    found = tokens(whole)
    assert found == tokens(*pieces)
    assert found == tokens(*(whole[at : at + 1] for at in range(len(whole))))
    for token in found:
        if isinstance(token, str):
            assert token
            assert not any(ord(char) < 0x20 or 0x7F <= ord(char) < 0xA0 for char in token)
        else:
            assert all(0 <= value <= VALUE_LIMIT for value in token.args)


def test_what_is_held_is_bounded() -> None:
    tokeniser = Tokeniser()
    for _ in range(50):
        tokeniser.feed(b"\x1b[" + b"1;" * 100 + b"\x1b]" + b"z" * 5_000)
        assert len(tokeniser._held) <= BODY_LIMIT_CHARS + 2
    assert not tokeniser.idle
    tokeniser.feed(b"\x07")
    assert tokeniser.idle
