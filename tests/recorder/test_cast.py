from __future__ import annotations

import contextlib
import itertools
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.cast import (
    CastReader,
    Code,
    Event,
    Header,
    crlf,
    event_line,
    header_line,
    parse_event,
    parse_header,
    split_event,
)
from recorder.chain import MAX_LINE_BYTES
from recorder.errors import CastUnreadable, LineTooLong

HEADER = Header("s1", bytes(32), 80, 24, datetime(2026, 7, 1, tzinfo=UTC), "etl@claims-db")

texts = st.text(st.characters(exclude_categories=["Cs"]))
codes: st.SearchStrategy[Code] = st.sampled_from(["o", "i", "m"])
events = st.builds(Event, st.integers(0, 10**15), codes, texts)


def cast_bytes() -> bytes:
    lines = [header_line(HEADER)]
    lines += [event_line(Event(n * 1000, "o", f"line {n} — ü\r\n")) for n in range(5)]
    lines.append(event_line(Event(4000, "h", f"6:{'ab' * 32}")))
    lines.append(event_line(Event(5000, "r", "100x40")))
    return b"".join(lines)


def read(*pieces: bytes) -> tuple[Header | None, list[Event]]:
    reader = CastReader()
    found = [event for piece in pieces for event in reader.feed(piece)]
    reader.finish()
    return reader.header, found


@given(events)
def test_an_event_is_read_back_as_it_was_written(event: Event) -> None:
    line = event_line(event)
    assert parse_event(line, 2) == event
    elements = json.loads(line)
    assert len(elements) == 3
    assert isinstance(elements[2], str)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")


@given(texts, st.integers(1, 500), st.integers(0, 500))
def test_a_header_is_read_back_as_it_was_written(title: str, cols: int, minutes: int) -> None:
    started = datetime(2026, 7, 1, minutes // 60, minutes % 60, tzinfo=UTC)
    header = Header("A-1.b_c", bytes(range(32)), cols, 24, started, title)
    assert parse_header(header_line(header)) == header


@given(st.data())
def test_the_reader_sees_the_same_however_the_bytes_are_split(data: st.DataObject) -> None:
    whole = cast_bytes()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    edges = [0, *cuts, len(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise(edges)]
    assert read(*pieces) == read(whole)


def test_the_reader_takes_a_cast_byte_by_byte() -> None:
    whole = cast_bytes()
    assert read(*(bytes([byte]) for byte in whole)) == read(whole)


def test_every_truncation_gives_whole_events_and_then_an_error() -> None:
    whole = cast_bytes()
    ends = {n + 1 for n, byte in enumerate(whole) if byte == 0x0A}
    for size in range(len(whole)):
        reader = CastReader()
        reader.feed(whole[:size])
        if size in ends:
            reader.finish()
            continue
        with pytest.raises(CastUnreadable) as caught:
            reader.finish()
        assert caught.value.line_number == whole[:size].count(b"\n") + 1


@given(st.binary(max_size=200), st.integers(0, 400))
def test_the_reader_raises_only_its_own_error(noise: bytes, at: int) -> None:
    whole = cast_bytes()
    reader = CastReader()
    with contextlib.suppress(CastUnreadable):
        reader.feed(whole[:at] + noise + whole[at:])
        reader.finish()


@pytest.mark.parametrize(
    "line",
    [
        b'[0.000000,"o","a","b"]\n',
        b'[0.000000,"o"]\n',
        b'[0.000000,"o",{"a":"b"}]\n',
        b'[0.000000,"o",1]\n',
        b'[0.000000,"x","a"]\n',
        b'[0.000000,"oo","a"]\n',
        b'[-1.000000,"o","a"]\n',
        b'[1,"o","a"]\n',
        b'[01.000000,"o","a"]\n',
        b'[NaN,"o","a"]\n',
        b'[0.000000, "o","a"]\n',
        b'[0.000000,"o","a"] \n',
        b'[0.000000,"o","\\ud800"]\n',
        b'[0.000000,"o","\xff"]\n',
        b'[0.000000,"o","\\u0061"]\n',
        b'[0.000000,"o","a" ,"b"]\n',
        b'[0.000000,"r","80"]\n',
        b'[0.000000,"h","abc"]\n',
        b"# a comment\n",
        b"\n",
    ],
)
def test_a_line_of_another_form_is_refused_with_its_number(line: bytes) -> None:
    with pytest.raises(CastUnreadable) as caught:
        read(header_line(HEADER) + event_line(Event(0, "o", "a")) + line)
    assert caught.value.line_number == 3


@pytest.mark.parametrize(
    "change",
    [
        {"version": 3},
        {"width": 0},
        {"width": True},
        {"height": "24"},
        {"timestamp": 1.5},
        {"timestamp": 10**30},
        {"title": 7},
        {"x_chain": None},
        {"x_chain": {"version": 2, "session": "s1", "genesis": "00" * 32}},
        {"x_chain": {"version": 1, "session": "../s1", "genesis": "00" * 32}},
        {"x_chain": {"version": 1, "session": "s1", "genesis": "00" * 31}},
        {"x_chain": {"version": 1, "session": "s1", "genesis": "AB" * 32}},
        {"x_chain": {"version": 1, "session": "s1"}},
    ],
)
def test_a_header_that_is_not_ours_is_refused(change: dict[str, object]) -> None:
    fields = json.loads(header_line(HEADER)) | change
    with pytest.raises(CastUnreadable):
        parse_header(json.dumps(fields).encode() + b"\n")


def test_time_may_not_go_backwards() -> None:
    early, late = event_line(Event(1, "o", "a")), event_line(Event(2, "o", "b"))
    with pytest.raises(CastUnreadable) as caught:
        read(header_line(HEADER) + late + early)
    assert caught.value.line_number == 3


@pytest.mark.parametrize("letter", ["a", "\x1b", "ü", "😀"])
def test_long_data_become_lines_of_the_same_time_that_fit(letter: str) -> None:
    data = letter * 150_001
    lines = list(split_event(Event(7, "o", data)))
    assert all(len(line) <= MAX_LINE_BYTES for line in lines)
    read_back = [parse_event(line, 2) for line in lines]
    assert "".join(event.data for event in read_back) == data
    assert {event.time_us for event in read_back} == {7}
    with pytest.raises(LineTooLong):
        event_line(Event(7, "o", data))


def test_an_event_without_data_is_one_line() -> None:
    assert list(split_event(Event(0, "o", ""))) == [b'[0.000000,"o",""]\n']


@pytest.mark.parametrize(
    "event",
    [
        Event(0, "o", "\ud800"),
        Event(-1, "o", ""),
        Event(0, "r", "80,24"),
        Event(0, "h", "0:" + "0" * 64),
    ],
)
def test_what_no_cast_may_hold_is_not_written(event: Event) -> None:
    with pytest.raises(ValueError):
        event_line(event)


def test_an_endless_line_is_refused_before_it_ends() -> None:
    reader = CastReader()
    reader.feed(header_line(HEADER))
    reader.feed(b"x" * (MAX_LINE_BYTES - 1))
    with pytest.raises(CastUnreadable):
        reader.feed(b"x")


@given(st.text("a\r\n"), st.integers(0, 20))
def test_line_feeds_become_crlf_once_however_the_text_is_split(text: str, at: int) -> None:
    first, second = text[:at], text[at:]
    together = crlf(text)
    assert crlf(first) + crlf(second, after_cr=first.endswith("\r")) == together
    assert "\n" not in together.replace("\r\n", "")
