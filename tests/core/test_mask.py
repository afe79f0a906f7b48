from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.mask import (
    LINE_LIMIT_CHARS,
    OVERLAP_CHARS,
    Masked,
    StreamMasker,
    join,
    mask_text,
    masked_message,
    tag,
)
from gateway.core.patterns import MAX_MATCH_CHARS, Searcher
from gateway.core.phi import CONSTANT

SSN = "123-45-6789"


def mask(*pieces: bytes) -> str:
    masker = StreamMasker()
    parts = [masker.feed(piece) for piece in pieces]
    return join([*parts, masker.finish()]).data.decode()


def test_masked_is_made_in_one_module_only() -> None:
    with pytest.raises(TypeError):
        Masked(b"x")
    for token in (None, object(), True):
        with pytest.raises(TypeError):
            Masked(b"x", token)
    made = masked_message("hello")
    with pytest.raises(TypeError):
        made.data = b"raw"  # type: ignore[misc]
    with pytest.raises(TypeError):
        made._data = b"raw"
    with pytest.raises(TypeError):
        del made._data
    for escape in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError):
            escape(made)
    with pytest.raises(TypeError):
        type("Raw", (Masked,), {})
    with pytest.raises(TypeError):
        join([made, b"raw"])  # type: ignore[list-item]
    assert "hello" not in repr(made)


def test_masked_compares_by_content() -> None:
    assert masked_message("a") == masked_message("a") != masked_message("b")
    assert masked_message("a") != b"a"
    assert len({masked_message("a"), masked_message("a")}) == 1
    assert len(masked_message("abc")) == 3
    assert not StreamMasker().finish()


@pytest.mark.parametrize(
    ("kind", "shown"),
    [
        ("ssn", b"[SSN]"),
        ("name", b"[NAME]"),
        ("note", b"[NOTE]"),
        (None, b"[PHI]"),
        ("\x1b", b"[PHI]"),
    ],
)
def test_tags(kind: str | None, shown: bytes) -> None:
    assert tag(kind) == shown
    assert CONSTANT == "[PHI]"


# What a child may write, and what leaves.
STREAMS = [
    (b"  1 | 123-45-6789 | open\n", "  1 | [SSN] | open\n"),
    (b"123-\x1b[1m45\x1b[0m-6789\n", "[SSN]\n"),
    (b"123-45\x08\x07\x00-6789\n", "[SSN]\n"),
    (b"123-\x1b]0;title\x0745-6789\n", "[SSN]\n"),
    (b"123-\x1b]0;title\x1b\\45-6789\n", "[SSN]\n"),
    (b"123-\x1bPq data\x1b\\45-6789\n", "[SSN]\n"),
    (b"123-\x1b_apc\x1b\\45-\x1b^pm\x1b\\6789\n", "[SSN]\n"),
    (b"123-\x1b(B45-6789\x1b7\n", "[SSN]\n"),
    ("123-\x9b31m45-6789\n".encode(), "[SSN]\n"),
    ("123-\u202e45\u202c-6789\n".encode(), "[SSN]\n"),
    ("a 123\u00ad-45\u200b-6\u20607\u200d89 b\n".encode(), "a [SSN] b\n"),
    ("１２３－４５－６７８９\n".encode(), "[SSN]\n"),
    ("٠١ ١٢٣-٤٥-٦٧٨٩\n".encode(), "٠١ [SSN]\n"),
    ("123–45—6789 123\u00a045\u20096789\n".encode(), "[SSN] [SSN]\n"),
    ("1\u03012\u03013-45-6789\n".encode(), "[SSN]\n"),
    ("josé@exämple.de ann＠example．com\n".encode(), "[EMAIL] [EMAIL]\n"),
    ("birth_date │ 1980-01-31\n".encode(), "birth_date │ [DATE]\n"),
    ("a\u202eb\u2066c\u200fd\u2069\n".encode(), "abcd\n"),
    (b"123-45-\r6789\r\n", "[SSN]\r\n"),
    (b"a\r\nb\tc\n", "a\r\nb\tc\n"),
    (b"bad \xff\xfe utf\xc3\n", "bad \ufffd\ufffd utf\ufffd\n"),
    (b"\xe2\x82", "\ufffd"),
    (b"no line feed 123-45-6789", "no line feed [SSN]"),
    (b"\x1b[31", ""),
    (b"\x1b]0;never ended\nnext line\n", "\nnext line\n"),
    (b"\x1b\nkept\n", "\nkept\n"),
    ("nästa rad, 日本, 👩\u200d💻\n".encode(), "nästa rad, 日本, 👩\u200d💻\n"),
]


@pytest.mark.parametrize(("data", "shown"), STREAMS)
def test_a_stream_whole_byte_by_byte_and_in_two(data: bytes, shown: str) -> None:
    assert mask(data) == shown
    assert mask(*(data[i : i + 1] for i in range(len(data)))) == shown
    for cut in range(len(data)):
        assert mask(data[:cut], data[cut:]) == shown


def test_a_line_is_held_until_it_is_complete() -> None:
    masker = StreamMasker()
    assert masker.feed(b"x\n123-45-67").data == b"x\n"
    assert masker.feed(b"89").data == b""
    assert masker.feed(b"\n").data == b"[SSN]\n"
    assert masker.counts == {"ssn": 1}


def test_findings_are_counted_by_pattern() -> None:
    masker = StreamMasker()
    masker.feed(b"123-45-6789 a@example.com\ndob: 1980-01-31 b@example.com\n")
    assert masker.counts == {"ssn": 1, "email": 2, "birth_date": 1}


_PIECES = st.one_of(
    st.sampled_from(
        [
            SSN, "dob: 1980-01-31", "ann@example.com", "(212) 555-0143", "4111 1111 1111 1111",
            "\x1b[31m", "\x1b]0;t\x07", "\x1bPq\x1b\\", "\x1b", "\x9b1m", "\u00ad", "\u202e", "\r",
            "\n",
            "１", "é", "日本", " ", "|", "-", "ssn ", "7",
        ]
    ),
    st.text(max_size=6),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(_PIECES, max_size=25), st.binary(max_size=6), st.data())
def test_the_output_does_not_depend_on_the_splits(
    pieces: list[str], noise: bytes, data: st.DataObject
) -> None:
    raw = "".join(pieces).encode("utf-8", "replace") + noise
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=8)))
    parts = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert mask(*parts) == mask(raw)


_COVER = st.sampled_from(["", "\x1b[1m", "\u00ad", "\u200b", "\x00", "\x1b]0;x\x07"])


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(["ssn", "email", "card"]),
    st.lists(
        st.sampled_from(["", "\x1b[1m", "\u00ad", "\u200b", "\x00", "\x1b]0;x\x07"]), max_size=30
    ),
    st.data(),
)
def test_a_planted_secret_never_appears(name: str, between: list[str], data: st.DataObject) -> None:
    secret = {"ssn": SSN, "email": "ann.lee@example.com", "card": "4111111111111111"}[name]
    cover = between + [""] * (len(secret) - len(between))
    written = "".join(char + extra for char, extra in zip(secret, cover, strict=False))
    raw = f"| {written} | é\n".encode()
    cut = data.draw(st.integers(0, len(raw)))
    shown = mask(raw[:cut], raw[cut:])
    assert secret not in shown
    after = cover[len(secret) - 1] if cover[len(secret) - 1] in ("\u00ad", "\u200b") else ""
    assert shown == f"| [{name.upper()}]{after} | é\n"


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=200))
def test_no_control_leaves(raw: bytes) -> None:
    for char in mask(raw):
        assert char in "\n\t\r" or not (ord(char) < 32 or 0x7F <= ord(char) <= 0x9F)
        assert (
            char not in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
        )


class TestLongLines:
    """A line past the limit leaves in parts, and no finding is cut."""

    def test_memory_is_bounded(self) -> None:
        masker = StreamMasker()
        left = sum(len(masker.feed(b"x" * 10_000)) for _ in range(100))
        assert 1_000_000 - left <= LINE_LIMIT_CHARS
        left += len(masker.finish())
        assert left == 1_000_000

    @pytest.mark.parametrize(
        "secret", [SSN, "dob" + " " * 63 + "| " + "1980-01-31", "ann@example.com"]
    )
    def test_a_secret_anywhere_near_a_cut_is_found(self, secret: str) -> None:
        value = secret.split(" ")[-1]
        cut = LINE_LIMIT_CHARS - OVERLAP_CHARS
        for place in [
            *range(cut - 90, cut + 20),
            *range(LINE_LIMIT_CHARS - 90, LINE_LIMIT_CHARS + 3),
        ]:
            raw = ("." * (place - 1) + " " + secret + " ").ljust(LINE_LIMIT_CHARS + 5_000, ".")
            shown = mask(raw.encode())
            assert value not in shown
            assert len(shown) == len(raw) - len(value) + len(shown.split("[")[1].split("]")[0]) + 2

    @pytest.mark.parametrize("filler", ["-", "é", "\u00ad"])
    def test_many_secrets_in_one_long_line(self, filler: str) -> None:
        raw = "".join(f"{filler * (i % 90)} {SSN} " for i in range(3_000))
        expected = raw.replace(SSN, "[SSN]")
        data = raw.encode()
        whole = mask(data)
        assert "123-45" not in whole
        if filler != "\u00ad":
            assert whole == expected
        step = 7_919
        assert mask(*(data[i : i + step] for i in range(0, len(data), step))) == whole

    def test_a_line_of_invisible_characters_stays_bounded(self) -> None:
        cover = "\u200b" * 20_000
        written = cover.join(SSN)
        data = f"{written} end\n".encode()
        assert "123" not in mask(data)
        assert mask(data[:100_001], data[100_001:]).replace("\u200b", "") == "[SSN] end\n"

    def test_a_sequence_without_end_is_dropped_up_to_its_limit(self) -> None:
        data = b"\x1b]0;" + b"y" * 10_000 + b" 123-45-6789\n"
        shown = mask(data)
        assert shown.endswith("[SSN]\n")
        assert len(shown) < 6_000
        for step in (1, 999, 4_097):
            assert mask(*(data[i : i + step] for i in range(0, len(data), step))) == shown

    def test_the_overlap_holds_two_findings(self) -> None:
        assert OVERLAP_CHARS >= 2 * MAX_MATCH_CHARS


def test_other_patterns_can_be_chosen() -> None:
    masker = StreamMasker(Searcher(()))
    assert masker.feed(b"123-45-6789 \x1b[1m\n").data == b"123-45-6789 \n"


def test_the_gateways_own_messages_are_masked() -> None:
    assert mask_text(f"Key (ssn)=({SSN}) exists\nnext") == "Key (ssn)=([SSN]) exists\nnext"
    assert mask_text("half \ud800 pair") == "half ? pair"
    assert masked_message(f'{{"reason": "{SSN}"}}\n').data == b'{"reason": "[SSN]"}\n'
