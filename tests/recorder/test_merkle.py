from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import ProofInvalid
from recorder.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

DATA = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
DATA.append("606162636465666768696a6b6c6d6e6f")
LEAVES = [leaf_hash(bytes.fromhex(data)) for data in DATA]


def defined_root(leaves: list[bytes]) -> bytes:
    """RFC 6962's recursive definition, written out."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    left, right = defined_root(leaves[:split]), defined_root(leaves[split:])
    return hashlib.sha256(b"\x01" + left + right).digest()


def many(count: int) -> list[bytes]:
    return [leaf_hash(str(number).encode()) for number in range(count)]


def test_published_vectors() -> None:
    expected = "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    assert root(LEAVES[:3]).hex() == expected
    expected = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert root(LEAVES).hex() == expected
    expected = "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert leaf_hash(b"L123456").hex() == expected
    assert EMPTY_ROOT.hex() == hashlib.sha256(b"").hexdigest()


def test_the_frontier_has_the_defined_root_at_every_size() -> None:
    frontier = Frontier()
    leaves = many(70)
    assert frontier.root() == EMPTY_ROOT
    for size, hashed in enumerate(leaves, 1):
        frontier.append(hashed)
        assert frontier.size == size
        assert frontier.root() == defined_root(leaves[:size])
    with pytest.raises(ValueError, match="32 bytes"):
        frontier.append(b"short")


def test_every_inclusion_proof_up_to_size_20_holds_at_its_own_place_only() -> None:
    for size in range(1, 21):
        leaves = many(size)
        expected = root(leaves)
        for index in range(size):
            proof = inclusion_proof(leaves, index)
            verify_inclusion(leaves[index], index, size, proof, expected)
            for other in range(size):
                if other != index:
                    with pytest.raises(ProofInvalid):
                        verify_inclusion(leaves[index], other, size, proof, expected)


def test_every_consistency_proof_up_to_size_20_holds() -> None:
    for size in range(21):
        leaves = many(size)
        for old_size in range(size + 1):
            proof = consistency_proof(leaves, old_size)
            verify_consistency(old_size, root(leaves[:old_size]), size, root(leaves), proof)


@given(st.data())
def test_a_changed_inclusion_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    leaves = many(size)
    index = data.draw(st.integers(0, size - 1))
    changed = mutate(data, [leaves[index], root(leaves), *inclusion_proof(leaves, index)])
    with pytest.raises(ProofInvalid):
        verify_inclusion(changed[0], index, size, changed[2:], changed[1])


@given(st.data())
def test_a_changed_consistency_proof_is_refused(data: st.DataObject) -> None:
    size = data.draw(st.integers(2, 40))
    leaves = many(size)
    old_size = data.draw(st.integers(1, size - 1))
    hashes = [root(leaves[:old_size]), root(leaves), *consistency_proof(leaves, old_size)]
    changed = mutate(data, hashes)
    with pytest.raises(ProofInvalid):
        verify_consistency(old_size, changed[0], size, changed[1], changed[2:])


def mutate(data: st.DataObject, hashes: list[bytes]) -> list[bytes]:
    """Flip a bit of one hash, or drop, repeat or cut one of the proof's."""
    hashes = list(hashes)
    at = data.draw(st.integers(0, len(hashes) - 1))
    how = data.draw(st.sampled_from(["flip", "drop", "repeat", "cut"]))
    if how == "flip" or (at < 2 and how != "cut"):
        flipped = bytearray(hashes[at])
        flipped[data.draw(st.integers(0, 31))] ^= 1 << data.draw(st.integers(0, 7))
        hashes[at] = bytes(flipped)
    elif how == "drop":
        del hashes[at]
    elif how == "repeat":
        hashes.insert(at, hashes[at])
    else:
        hashes[at] = hashes[at][:-1]
    return hashes


def test_sizes_without_sense_are_refused() -> None:
    leaves = many(4)
    one = root(leaves)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaves[0], 4, 4, [], one)
    with pytest.raises(ProofInvalid):
        verify_inclusion(leaves[0], -1, 4, [], one)
    with pytest.raises(ProofInvalid):
        verify_consistency(5, one, 4, one, [])
    with pytest.raises(ProofInvalid):
        verify_consistency(0, one, 4, one, [])
    with pytest.raises(ProofInvalid):
        verify_consistency(4, one, 4, one, [one])
    with pytest.raises(ProofInvalid):
        verify_consistency(0, EMPTY_ROOT, 0, one, [])
    with pytest.raises(ProofInvalid):
        verify_consistency(3, one, 4, one, [])
    with pytest.raises(ValueError, match="leaf"):
        inclusion_proof(leaves, 4)
    with pytest.raises(ValueError, match="size"):
        consistency_proof(leaves, 5)
