"""The Merkle tree of RFC 6962, section 2.1 (pure)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from recorder.errors import ProofInvalid

EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_HASH_BYTES: Final = 32


def leaf_hash(data: bytes) -> bytes:
    """SHA-256(0x00 || data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """A growing tree of which only the perfect subtrees on its right edge are kept.

    Attributes:
        size: how many leaves were appended.
    """

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []

    def append(self, hashed: bytes) -> None:
        """Add the leaf hash of the next leaf; O(1) amortised, O(log n) at worst.

        Raises:
            ValueError: it is not 32 bytes.
        """
        if len(hashed) != _HASH_BYTES:
            raise ValueError("a leaf hash is 32 bytes")
        # Each trailing 1 bit of the size is a perfect subtree that now gets its sibling.
        size = self.size
        while size & 1:
            hashed = node_hash(self._subtrees.pop(), hashed)
            size >>= 1
        self._subtrees.append(hashed)
        self.size += 1

    def root(self) -> bytes:
        """The root over all leaves so far, 32 bytes; O(log n)."""
        if not self._subtrees:
            return EMPTY_ROOT
        root = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            root = node_hash(subtree, root)
        return root


def root(leaves: Sequence[bytes]) -> bytes:
    """The root of the tree over these leaf hashes, 32 bytes."""
    frontier = Frontier()
    for hashed in leaves:
        frontier.append(hashed)
    return frontier.root()


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """The audit path of leaf ``index`` in the tree of these leaf hashes, leaf to root.

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise ValueError("no such leaf")
    proof: list[bytes] = []
    low, high = 0, len(leaves)
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(root(leaves[middle:high]))
            high = middle
        else:
            proof.append(root(leaves[low:middle]))
            low = middle
    proof.reverse()
    return proof


def verify_inclusion(
    hashed: bytes, index: int, size: int, proof: Sequence[bytes], expected: bytes
) -> None:
    """Check that a leaf hash stands at ``index`` in the tree of ``size`` with this root.

    RFC 9162, section 2.1.3.2.

    Raises:
        ProofInvalid: it does not, or the proof is malformed.
    """
    _check_hashes([hashed, expected, *proof])
    if not 0 <= index < size:
        raise ProofInvalid("the leaf's index is outside the tree")
    node, last, result = index, size - 1, hashed
    for step in proof:
        if last == 0:
            raise ProofInvalid("the proof is too long")
        if node & 1 or node == last:
            result = node_hash(step, result)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            result = node_hash(result, step)
        node >>= 1
        last >>= 1
    if last != 0 or not hmac.compare_digest(result, expected):
        raise ProofInvalid("the proof does not lead to the root")


def consistency_proof(leaves: Sequence[bytes], old_size: int) -> list[bytes]:
    """The proof that the tree of ``old_size`` is a prefix of the tree of these leaf hashes.

    Empty when the sizes are equal or ``old_size`` is 0. RFC 6962, section 2.1.2.

    Raises:
        ValueError: the tree never had that size.
    """
    if not 0 <= old_size <= len(leaves):
        raise ValueError("the tree never had that size")
    if old_size in (0, len(leaves)):
        return []
    proof: list[bytes] = []
    low, high, whole = 0, len(leaves), True
    while old_size != high:
        middle = low + _split(high - low)
        if old_size <= middle:
            proof.append(root(leaves[middle:high]))
            high = middle
        else:
            proof.append(root(leaves[low:middle]))
            low, whole = middle, False
    if not whole:
        proof.append(root(leaves[low:high]))
    proof.reverse()
    return proof


def verify_consistency(
    old_size: int, old_root: bytes, size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of ``size`` still begins with the tree of ``old_size``.

    RFC 9162, section 2.1.4.2. The empty tree is a prefix of every tree.

    Raises:
        ProofInvalid: it does not, or the proof is malformed.
    """
    _check_hashes([old_root, new_root, *proof])
    if not 0 <= old_size <= size:
        raise ProofInvalid("the older tree is the larger one")
    if old_size in (0, size):
        same = EMPTY_ROOT if old_size == 0 else new_root
        if proof or not hmac.compare_digest(old_root, same):
            raise ProofInvalid("trees of this size need no proof and have one root")
        if size == 0 and not hmac.compare_digest(new_root, EMPTY_ROOT):
            raise ProofInvalid("an empty tree has one root")
        return
    # A tree that is one perfect subtree is not repeated in the proof.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    if not path:
        raise ProofInvalid("the proof is too short")
    node, last = old_size - 1, size - 1
    while node & 1:
        node >>= 1
        last >>= 1
    older = newer = path[0]
    for step in path[1:]:
        if last == 0:
            raise ProofInvalid("the proof is too long")
        if node & 1 or node == last:
            older, newer = node_hash(step, older), node_hash(step, newer)
            while not node & 1 and node:
                node >>= 1
                last >>= 1
        else:
            newer = node_hash(newer, step)
        node >>= 1
        last >>= 1
    reached = hmac.compare_digest(older, old_root) and hmac.compare_digest(newer, new_root)
    if last != 0 or not reached:
        raise ProofInvalid("the proof does not lead to both roots")


def _split(size: int) -> int:
    """The largest power of two below ``size``, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(hashed) != _HASH_BYTES for hashed in hashes):
        raise ProofInvalid("a hash that is not 32 bytes")
