"""Planted identifiers in disguise: never visible, in no byte that leaves."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.core.screen.reference import Session, speaks

SECRETS = {
    "ssn": "123-45-6789",
    "email": "ann.lee@example.org",
    "phone": "(212) 555-0143",
    "card": "4111 1111 1111 1111",
}
Disguise = Callable[[str], bytes]


def _between(mark: str) -> Disguise:
    return lambda secret: mark.join(secret).encode()


def _place(x: int, text: str, y: int = 5) -> str:
    return f"\x1b[{y};{x}H{text}"


def _right_to_left(secret: str) -> bytes:
    return "".join(_place(10 + at, secret[at]) for at in reversed(range(len(secret)))).encode()


def _shuffled(secret: str) -> bytes:
    order = list(range(len(secret)))
    random.Random(3).shuffle(order)
    return "".join(_place(10 + at, secret[at]) for at in order).encode()


def _full_width(secret: str) -> bytes:
    wide = (chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in secret)
    return "".join(wide).encode()


def _halves(secret: str, at: int) -> bytes:
    first = "\x1b[H" + "x" * (79 - at) + " " + secret[:at] + "\r\nrest\r\n"
    return (first + secret[at:] + "\x1b[2;1H\x1b[M").encode()


DISGUISES: dict[str, Disguise] = {
    "plain line": lambda s: f"x {s} y\r\n".encode(),
    "no line end": lambda s: f"x {s}".encode(),
    "in a table": lambda s: f" 1 | {s} | open\r\n 2 | none | x\r\n".encode(),
    "box drawing": lambda s: f"│ {s} │\r\n".encode(),
    "coloured whole": lambda s: f"\x1b[31m{s}\x1b[0m\r\n".encode(),
    "coloured per digit": lambda s: "".join(
        f"\x1b[{31 + at % 7}m{char}" for at, char in enumerate(s)
    ).encode(),
    "SGR between": _between("\x1b[1m\x1b[0m"),
    "256 colours": _between("\x1b[38;5;200m"),
    "true colour with colons": _between("\x1b[38:2::1:2:3m"),
    "titles between": _between("\x1b]0;title\x07"),
    "clipboard between": _between("\x1b]52;c;AAAA\x1b\\"),
    "device strings between": _between("\x1bP1$q\x1b\\"),
    "application strings between": _between("\x1b_x\x1b\\\x1b^y\x1b\\"),
    "unknown sequences between": _between("\x1b[?99h\x1b[5n\x1b(B\x1b#8\x1b[>c"),
    "C1 between": _between("\x9b0m"),
    "nulls and bells between": _between("\x00\x07\x7f"),
    "zero-width between": _between("\u200b"),
    "joiners between": _between("\u200d\u2060\ufeff"),
    "soft hyphens between": _between("\u00ad"),
    "bidi marks between": _between("\u202e\u202c"),
    "combining": _between("\u0301"),
    "full width": _full_width,
    "backspaces": lambda s: "".join(f"?\b{char}" for char in s).encode(),
    "overwritten": lambda s: ("#" * len(s) + "\r" + s).encode(),
    "right to left": _right_to_left,
    "shuffled": _shuffled,
    "cursor forward": lambda s: ("\x1b[9C" + "\x1b[C\x1b[D".join(s)).encode(),
    "inserted from the end": lambda s: "".join(f"\r\x1b[@{char}" for char in reversed(s)).encode(),
    "deleted into place": lambda s: "".join(f"{char}zz\x1b[2D\x1b[2P" for char in s).encode(),
    "two halves met by a deleted line": lambda s: _halves(s, s.rindex("1") if "1" in s else 5),
    "scrolled": lambda s: ("\r\n" * 30 + "\x1b[1m" + s + "\r\n" * 5).encode(),
    "in a scroll region": lambda s: ("\x1b[3;6r\x1b[6;1H" + f"{s}\n" * 3).encode(),
    "scrolled back": lambda s: ("\x1b[1;1H" + s + "\x1b[S\x1b[T\x1bM").encode(),
    "alternate screen": lambda s: f"before\r\n\x1b[?1049h\x1b[2;3H{s}".encode(),
    "left in the alternate screen": lambda s: f"{s}\x1b[?1049hx\x1b[?1049l".encode(),
    "saved and restored": lambda s: "".join(f"{char}\x1b7\x1b[9;9Hx\x1b8" for char in s).encode(),
    "tabs before": lambda s: f"a\tb\t{s}\tc\r\n".encode(),
    "wrapped": lambda s: ("x" * (79 - len(s) // 2) + " " + s + "\r\n").encode(),
    "wrapped coloured": lambda s: ("\x1b[1m" + "x" * (79 - len(s) // 2) + " " + s).encode(),
    "absolute columns": lambda s: "".join(f"\x1b[{7 + at}G{c}" for at, c in enumerate(s)).encode(),
}


def check(session: Session, secret: str) -> None:
    assert session.agrees()
    assert not speaks(session.stripped(), secret)
    for frame in session.frames:
        assert not speaks("".join(frame), secret)
        assert not any(speaks(row, secret) for row in frame)


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguised_identifier_is_never_visible(name: str, kind: str) -> None:
    secret = SECRETS[kind]
    data = DISGUISES[name](secret)
    whole = Session().feed(data).finish()
    check(whole, secret)
    single = Session()
    for at in range(len(data)):
        single.feed(data[at : at + 1])
    check(single.finish(), secret)
    assert single.reader.rows() == whole.reader.rows()
    for cut in range(1, len(data), 1 + len(data) // 40):
        session = Session().feed(data[:cut]).feed(data[cut:]).finish()
        check(session, secret)
        assert session.reader.rows() == whole.reader.rows()
    assert whole.terminal.counts[kind] + single.terminal.counts[kind] > 0
    assert whole.terminal.restarts == 0


@pytest.mark.parametrize("kind", SECRETS)
def test_wrapped_at_every_width(kind: str) -> None:
    secret = SECRETS[kind]
    for cols in range(20, 121):
        for lead in ("", "\x1b[1m"):
            text = f"{lead}{'word ' * 30}{secret} end\r\nmore"
            session = Session(cols, 12).feed(text.encode()).finish()
            check(session, secret)


@pytest.mark.parametrize("kind", SECRETS)
def test_resized_in_the_middle(kind: str) -> None:
    secret = SECRETS[kind]
    half = len(secret) // 2
    for lead in ("", "\x1b[3m", "\x1b[?1049h"):
        for cols in (10, 20, 23, 41, 80, 132):
            session = Session(40, 10)
            session.feed(f"{lead}{'x' * (39 - half)} {secret[:half]}".encode())
            session.resize(cols, 9).feed(secret[half:].encode()).resize(40, 12)
            session.resize(24, 3).feed(b"\x1b[H").resize(300, 50).finish()
            check(session, secret)


def test_an_arriving_number_shows_two_digits_at_most() -> None:
    for lead in (b"", b"\x1b[1m"):
        session = Session().feed(lead)
        for at in range(11):
            session.feed(SECRETS["ssn"].encode()[at : at + 1])
            digits = sum(char.isdigit() for char in session.frames[-1][0])
            assert digits <= 2
        assert session.frames[-1][0] == "[SSN]██████"


def test_a_number_that_is_disproved_is_shown() -> None:
    for lead in (b"", b"\x1b[1m"):
        session = Session().feed(lead + b"order 12345")
        assert session.frames[-1][0] == "order █████"
        session.feed(b", ready")
        assert session.frames[-1][0] == "order 12345, ready"


def test_typing_is_not_held_back_but_what_is_complete_is_hidden() -> None:
    for lead in (b"=> ", b"\x1b[1m=> \x1b[0m"):
        session = Session().feed(lead)
        for char in b"select 12345678":
            session.feed(bytes([char]), echo=True)
        assert session.frames[-1][0] == "=> select 12345678"
        session.feed(b" '123-45-6789'", echo=True)
        assert session.frames[-1][0] == "=> select 12345678 '[SSN]██████'"


def test_what_the_child_began_is_held_while_the_reader_types() -> None:
    for lead in (b"", b"\x1b[1m"):
        session = Session().feed(lead + b"123-45-67").feed(b"8", echo=True)
        assert session.frames[-1][0] == "█" * 10
