"""Framing, whole, byte by byte and in random cuts."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import GuardBroken
from gateway.guards.pgwire import codec
from gateway.guards.pgwire.codec import FrameReader, Message, Run, frame
from gateway.guards.pgwire.text import clean, is_clean, may_hold_controls

STREAM = (
    codec.parameter_status("TimeZone", "UTC")
    + frame("T", b"\0\0")
    + frame("D", b"\0\0") * 3
    + frame("D", b"x" * 300)
    + codec.command_complete(b"SELECT 4")
    + frame("d", b"a\tb\n") * 2
    + frame("D", b"\0\0")
    + codec.ready("I")
)


def read(pieces: list[bytes], limit: int = 1000) -> list[tuple[int, bytes]]:
    """Every message of a stream, runs taken apart."""
    reader, out = FrameReader(limit), []
    for piece in pieces:
        reader.feed(piece)
        while (message := reader.take()) is not None:
            if isinstance(message, Run):
                ends = [*message.starts[1:], len(message.block)]
                for start, end in zip(message.starts, ends, strict=True):
                    out.append((message.type, message.block[start + 5 : end]))
            else:
                out.append((message.type, message.body))
    assert reader.pending_bytes == 0
    return out


def test_whole_and_byte_by_byte_are_the_same() -> None:
    whole = read([STREAM])
    assert [chr(kind) for kind, _ in whole] == list("STDDDDCddDZ")
    assert read([STREAM[i : i + 1] for i in range(len(STREAM))]) == whole


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_random_cuts_are_the_same(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    assert read(pieces) == read([STREAM])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_raise_only_guard_broken(data: bytes) -> None:
    for startup in (False, True):
        reader = FrameReader(100, startup=startup)
        reader.feed(data)
        try:
            while (reader.take_startup() if startup else reader.take()) is not None:
                pass
        except GuardBroken:
            continue
        assert reader.pending_bytes <= (codec.MAX_STARTUP_BYTES if startup else 101)


@pytest.mark.parametrize("length", [0, 3, 101, 2**31, 2**32 - 1])
@pytest.mark.parametrize("kind", [b"D", b"Z"])
def test_an_impossible_length_is_refused_at_once(kind: bytes, length: int) -> None:
    reader = FrameReader(100)
    reader.feed(frame("D", b"ok") + kind + struct.pack("!I", length))
    with pytest.raises(GuardBroken):
        _read_all(reader)


def _read_all(reader: FrameReader) -> None:
    while reader.take() is not None:
        pass


@given(st.binary(max_size=60))
def test_bodies_raise_only_guard_broken(body: bytes) -> None:
    for parse in (
        codec.parse_fields,
        codec.parse_parameter,
        codec.parse_tag,
        codec.parse_status,
        codec.parse_backend_key,
    ):
        try:
            parse(body)
        except GuardBroken:
            continue


def test_a_nul_cannot_cut_a_query_short() -> None:
    with pytest.raises(GuardBroken):
        codec.query(b"SELECT 1\0; DROP TABLE t")


def test_the_key_does_not_show_its_secret() -> None:
    key = codec.parse_backend_key(b"\0\0\0\x07" + b"SECR")
    assert "SECR" not in repr(key)
    assert codec.cancel_request(key) == bytes.fromhex("00000010 04d2162e 00000007") + b"SECR"


def test_letters_for_people() -> None:
    assert Message(ord("Q"), b"").letter == "Q"
    assert Message(0x1B, b"").letter == "0x1b"


def row(cells: list[bytes | None]) -> bytes:
    """A DataRow frame."""
    parts = (b"\xff" * 4 if c is None else struct.pack("!i", len(c)) + c for c in cells)
    return frame("D", struct.pack("!h", len(cells)) + b"".join(parts))


SIZES = st.sampled_from([0, 1, 5, 31, 127, 255, 256, 257, 511, 512, 1024, 65280, 65536])
CONTROLS = st.sampled_from(["\x01", "\x1b", "\r", "\x7f", "\x85", "\u202e", "\u2066", "\u061c"])


@given(
    sizes=st.lists(st.none() | SIZES, min_size=1, max_size=5),
    column=st.integers(0, 4),
    control=CONTROLS,
    where=st.sampled_from(["first", "middle", "last"]),
)
@settings(max_examples=600)
def test_a_control_never_passes_the_search_over_a_block(
    sizes: list[int | None], column: int, control: str, where: str
) -> None:
    cells = [None if size is None else b"x" * size for size in sizes]
    mark = control.encode()
    old = cells[column % len(cells)] or b""
    keep = max(0, len(old) - len(mark))
    at = {"first": 0, "middle": keep // 2, "last": keep}[where]
    cells[column % len(cells)] = b"x" * at + mark + b"x" * (keep - at)
    assert may_hold_controls(row([b"ok", b"1"]) + row(cells))
    dirty = cells[column % len(cells)]
    assert dirty is not None
    assert not is_clean(dirty)
    assert is_clean(clean(dirty))


@given(st.lists(st.lists(st.none() | st.text("abc DÜ\t\n", max_size=30), min_size=1, max_size=6)))
def test_short_clean_rows_take_the_fast_path(table: list[list[str | None]]) -> None:
    block = b"".join(row([None if c is None else c.encode() for c in cells]) for cells in table)
    assert not may_hold_controls(block)
