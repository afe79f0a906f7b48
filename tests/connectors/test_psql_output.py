"""psql's stdout, split at its nonces: whole, byte by byte and at every cut."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.connectors.psql.output import Drawn, Ended, OutputSplitter

NONCE, NEXT, QUIET = "a" * 31 + "b", "c" * 32, "d" * 32
STREAM = f"x\n(1 row)\n\n{NONCE}\n{QUIET}\naaaaab\ny|aaa\n{NEXT}\ntail".encode()


def split(pieces: Iterable[bytes]) -> tuple[bytes, list[tuple[int, str]]]:
    """What was drawn, and after how many drawn bytes each unit ended."""
    splitter = OutputSplitter(QUIET)
    splitter.expect(NONCE)
    splitter.expect(NEXT)
    drawn, ended = b"", []
    for found in [*(splitter.feed(piece) for piece in pieces), splitter.finish()]:
        for each in found:
            if isinstance(each, Drawn):
                drawn += each.data
            else:
                ended.append((len(drawn), each.nonce))
    return drawn, ended


WHOLE = (b"x\n(1 row)\n\naaaaab\ny|aaa\ntail", [(11, NONCE), (24, NEXT)])


def test_whole_and_byte_by_byte() -> None:
    assert split([STREAM]) == WHOLE
    assert split(STREAM[i : i + 1] for i in range(len(STREAM))) == WHOLE


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_every_cut(cut: int) -> None:
    assert split([STREAM[:cut], STREAM[cut:]]) == WHOLE


@given(st.lists(st.integers(0, len(STREAM)), max_size=8))
def test_random_splits(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    assert split(STREAM[a:b] for a, b in pairwise(edges)) == WHOLE


def test_a_nonce_counts_once() -> None:
    splitter = OutputSplitter()
    splitter.expect(NONCE)
    found = splitter.feed(f"{NONCE}\n{NONCE}\n".encode()) + splitter.finish()
    assert found == [Ended(NONCE), Drawn(f"{NONCE}\n".encode())]


def test_a_nonce_that_nobody_expects_is_only_text() -> None:
    splitter = OutputSplitter()
    assert splitter.feed(f"{NEXT}\n".encode()) == [Drawn(f"{NEXT}\n".encode())]


def test_plain_output_is_not_held() -> None:
    splitter = OutputSplitter()
    splitter.expect(NONCE)
    assert splitter.feed(b"no line feed yet: ") == [Drawn(b"no line feed yet: ")]
