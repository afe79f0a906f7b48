from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.chain import MAX_LINE_BYTES, Chain, inner_digest, link, link_inner, salt_for
from recorder.errors import LineTooLong

digests = st.binary(min_size=32, max_size=32)


@given(digests, digests, st.binary(max_size=100))
def test_a_link_is_the_written_formula(previous: bytes, salt: bytes, line: bytes) -> None:
    inner = hashlib.sha256(salt + line).digest()
    assert link(previous, salt, line) == hashlib.sha256(previous + inner).digest()


@given(digests, st.integers(0, 2**64 - 1))
def test_a_salt_is_an_hmac_of_the_index(seed: bytes, index: int) -> None:
    expected = hmac.new(seed, index.to_bytes(8, "big"), hashlib.sha256).digest()
    assert salt_for(seed, index) == expected


@given(digests, st.lists(st.tuples(digests, st.binary(max_size=50)), max_size=10))
def test_an_erased_line_still_proves_the_rest(
    genesis: bytes, lines: list[tuple[bytes, bytes]]
) -> None:
    whole, erased = Chain(genesis), Chain(genesis)
    for number, (salt, line) in enumerate(lines, 1):
        erased.add_inner(whole.add(salt, line))
        assert whole.lines == erased.lines == number
    assert whole.head == erased.head


def test_the_line_limit_is_exact_and_nothing_is_linked_above_it() -> None:
    chain = Chain(bytes(32))
    chain.add(bytes(32), b"x" * MAX_LINE_BYTES)
    before = chain.head
    with pytest.raises(LineTooLong):
        chain.add(bytes(32), b"x" * (MAX_LINE_BYTES + 1))
    assert (chain.head, chain.lines) == (before, 1)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_digests_of_another_length_are_refused(length: int) -> None:
    wrong = bytes(length)
    with pytest.raises(ValueError, match="genesis"):
        Chain(wrong)
    with pytest.raises(ValueError, match="seed"):
        salt_for(wrong, 0)
    with pytest.raises(ValueError, match="salt"):
        inner_digest(wrong, b"")
    with pytest.raises(ValueError, match="previous"):
        link_inner(wrong, bytes(32))
    with pytest.raises(ValueError, match="inner"):
        Chain(bytes(32)).add_inner(wrong)


@pytest.mark.parametrize("index", [-1, 2**64])
def test_an_index_outside_64_bits_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="64-bit"):
        salt_for(bytes(32), index)
