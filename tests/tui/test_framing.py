"""The frames: whole, byte by byte, in random splits; only their own errors."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import Denied
from tui import framing
from tui.framing import BadFrame, Lines, Question
from tui.tickets import Refused

WORDS = st.lists(st.text(st.characters(exclude_categories=()), max_size=20), max_size=4)


@given(st.sampled_from(sorted(framing.VERBS)), WORDS)
def test_a_question_comes_back(verb: str, words: list[str]) -> None:
    question = Question(verb, tuple(words))
    line = framing.write_question(question)
    assert line.count(b"\n") == 1
    assert framing.read_question(line[:-1]) == question


@given(st.dictionaries(st.text(max_size=5), st.text(max_size=9)))
def test_fields_come_back(fields: dict[str, str]) -> None:
    assert framing.read_answer(framing.write_fields(fields)[:-1]) == fields


def test_an_error_comes_back_as_a_refusal() -> None:
    line = framing.write_error(Denied("You may not", "Ask another", rule="ticket.own"))
    with pytest.raises(Refused) as caught:
        framing.read_answer(line)
    assert caught.value.reason == "You may not"
    assert (caught.value.advice, caught.value.rule) == ("Ask another", "ticket.own")


@given(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b" ")), max_size=6))
def test_lines_however_they_were_split(lines: list[bytes]) -> None:
    stream = b"".join(line + b"\n" for line in lines) + b"rest"
    assert Lines(30).feed(stream) == lines
    one = Lines(30)
    assert [line for byte in stream for line in one.feed(bytes([byte]))] == lines
    some, found, at = Lines(30), [], 0
    choose = random.Random(len(stream))
    while at < len(stream):
        size = choose.randint(1, 9)
        found += some.feed(stream[at : at + size])
        at += size
    assert found == lines


@pytest.mark.parametrize("split", [1, 5, 100])
@pytest.mark.parametrize("stream", [b"x" * 31, b"x" * 31 + b"\n", b"ok\n" + b"x" * 31 + b"\nok\n"])
def test_a_line_over_the_limit(stream: bytes, split: int) -> None:
    lines = Lines(30)
    parts = [stream[at : at + split] for at in range(0, len(stream), split)]
    with pytest.raises(BadFrame):
        list(map(lines.feed, parts))


@given(
    st.one_of(st.binary(max_size=60), st.from_regex(r"[\[\]{}\":a-z0-9,]{0,40}").map(str.encode))
)
def test_anything_else_is_a_bad_frame(line: bytes) -> None:
    for read in (framing.read_question, framing.read_answer):
        with pytest.raises(BadFrame):
            read(line)


@pytest.mark.parametrize(
    "fields",
    [
        {"verb": "cancel", "arguments": []},
        {"verb": "whoami", "arguments": []},
        {"verb": ["tickets"], "arguments": []},
        {"verb": "tickets"},
        {"verb": "tickets", "arguments": "--all"},
        {"verb": "approve", "arguments": ["T-1", 7]},
    ],
)
def test_what_the_queue_may_not_ask(fields: object) -> None:
    with pytest.raises(BadFrame):
        framing.read_question(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "answer", [{}, {"fields": []}, {"error": "no"}, {"fields": {}, "error": {}}, [1], "x", None]
)
def test_an_answer_is_fields_or_an_error(answer: object) -> None:
    with pytest.raises(BadFrame):
        framing.read_answer(json.dumps(answer).encode())


def test_deep_nesting_is_a_bad_frame() -> None:
    with pytest.raises(BadFrame):
        framing.read_answer(b"[" * 200_000)
