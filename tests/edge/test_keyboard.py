"""Keys from a channel: any bytes, any splits, bounded."""

from __future__ import annotations

import asyncio
import contextvars
import random
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gateway.edge.keyboard import KEYS_AT_ONCE, MAX_PASTE_CHARS, MAX_WAITING_KEYS, ChannelInput

KEYS = "sélect 1\r\x1b[A\x1b[200~a\rb\x1b[201~\x03\x04\x7f\t\x1bOQ日".encode()


def _names(keys: ChannelInput) -> list[tuple[str, str]]:
    found = []
    while (key := keys.next_key()) is not None:
        found.append((str(getattr(key.key, "value", key.key)), key.data))
    return found


def test_keys_do_not_depend_on_how_they_were_split() -> None:
    whole = ChannelInput()
    whole.feed(KEYS)
    wanted = _names(whole)
    assert ("<bracketed-paste>", "a\rb") in wanted or ("<bracketed-paste>", "a\nb") in wanted
    assert [name for name, _ in wanted][:6] == list("sélect")
    chance = random.Random(3)
    for _ in range(200):
        split, at, found = ChannelInput(), 0, []
        while at < len(KEYS):
            end = at + chance.randint(1, 7)
            split.feed(KEYS[at:end])
            found += _names(split)
            at = end
        assert found == wanted


def test_bytes_that_are_no_text_are_keys_all_the_same() -> None:
    keys = ChannelInput()
    keys.feed(bytes(range(256)) * 4)
    assert keys.read_keys()


def test_each_input_keeps_its_own_typeahead() -> None:
    assert ChannelInput().typeahead_hash() != ChannelInput().typeahead_hash()


def test_a_lone_escape_is_a_key_in_the_end() -> None:
    keys = ChannelInput()
    keys.feed(b"\x1b")
    assert keys.read_keys() == []
    assert [key.data for key in keys.flush_keys()] == ["\x1b"]


_WHOSE = contextvars.ContextVar("_WHOSE", default="nobody's")


def test_keys_are_handled_in_the_context_of_who_waits() -> None:
    """They arrive in the connection's, in which no application is the session's own."""
    keys, seen = ChannelInput(), []

    @contextmanager
    def attached() -> Iterator[None]:
        with keys.attach(lambda: seen.append(_WHOSE.get())):
            yield

    inner = contextvars.copy_context()
    inner.run(_WHOSE.set, "mine")
    waiting = inner.run(attached)
    inner.run(waiting.__enter__)
    keys.feed(b"a")
    inner.run(waiting.__exit__, None, None, None)
    keys.feed(b"b")
    assert seen == ["mine"]


async def test_many_keys_come_in_parts() -> None:
    """The loop has other sessions: a flood is not handled at a stretch."""
    keys = ChannelInput()
    counts: list[int] = []
    with keys.attach(lambda: counts.append(len(keys.read_keys()))):
        keys.feed(b"x" * (3 * KEYS_AT_ONCE + 1))
        assert counts == [KEYS_AT_ONCE]
        for _ in range(6):
            await asyncio.sleep(0)
    assert counts == [KEYS_AT_ONCE] * 3 + [1]


def test_what_is_typed_ahead_is_bounded() -> None:
    keys = ChannelInput()
    keys.feed(b"x" * (MAX_WAITING_KEYS + 1000))
    assert len(_names(keys)) == MAX_WAITING_KEYS
    keys.feed(b"y")
    assert _names(keys) == [("y", "y")]


@pytest.mark.parametrize("size", [MAX_PASTE_CHARS, MAX_PASTE_CHARS + 1])
def test_a_paste_is_taken_whole_or_not_at_all(size: int) -> None:
    keys = ChannelInput()
    keys.feed(b"\x1b[200~")
    for start in range(0, size, 10_000):
        keys.feed(b"x" * min(10_000, size - start))
    keys.feed(b"\x1b[201~;")
    found = _names(keys)
    assert found[-1] == (";", ";")
    assert [len(data) for _, data in found[:-1]] == ([size] if size <= MAX_PASTE_CHARS else [])


def test_a_paste_without_end_is_not_kept() -> None:
    keys = ChannelInput()
    keys.feed(b"\x1b[200~")
    tracemalloc.start()
    for _ in range(100):
        keys.feed(b"x" * 100_000)
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 2_000_000


def test_a_sequence_without_end_costs_nothing() -> None:
    """prompt_toolkit remembers each prefix of a sequence, for all sessions and for ever."""
    keys = ChannelInput()
    tracemalloc.start()
    for begin in (b"\x1b[", b"\x1b[<", b"\x1b[M"):
        keys.feed(begin + b"1;" * 2_000)
        assert keys.flush_keys() is not None
    while keys.next_key():
        pass
    kept_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept_bytes < 500_000
