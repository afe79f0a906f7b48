"""The published vectors, by the recorder and by a verifier that shares no code with it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from recorder.chain import Chain, salt_for
from recorder.leaf import Leaf, body_bytes, envelope_bytes
from recorder.merkle import verify_consistency, verify_inclusion
from recorder.note import checkpoint_text, parse_vkey, sign_checkpoint, verify_checkpoint
from recorder.salts import salts_path
from recorder.sshsig import allowed_signers, sign_sshsig, verify_sshsig
from recorder.verify import verify_cast
from tests.recorder.independent import (
    Bad,
    cast_heads,
    check_sshsig,
    check_state,
    envelope,
    sha256,
    tree_root,
)
from tests.recorder.records import VKEY, closed_cast, state_with_sessions

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((VECTORS / name).read_text())
    return loaded


def write_cast(folder: Path, vector: dict[str, Any]) -> Path:
    path = folder / "vector.cast"
    path.write_bytes(b"".join(line["line"].encode() for line in vector["lines"]))
    proofs = "".join(f"{line['salt']} {line['inner']}\n" for line in vector["lines"])
    salts_path(path).write_text(proofs)
    return path


def test_the_cast_by_the_recorder(tmp_path: Path) -> None:
    vector = load("cast.json")
    chain = Chain(bytes.fromhex(vector["genesis"]))
    for index, line in enumerate(vector["lines"]):
        salt = salt_for(bytes.fromhex(vector["seed"]), index)
        assert salt.hex() == line["salt"]
        assert chain.add(salt, line["line"].encode()).hex() == line["inner"]
        assert chain.head == line["link"]
    report = verify_cast(write_cast(tmp_path, vector))
    assert report.complete
    assert report.root == vector["root"] == chain.head


def test_the_cast_by_the_document_alone(tmp_path: Path) -> None:
    vector = load("cast.json")
    heads = cast_heads(write_cast(tmp_path, vector))
    assert [head.hex() for head in heads] == [line["link"] for line in vector["lines"]]


def test_the_ledger_by_the_recorder() -> None:
    vector = load("ledger.json")
    for leaf in vector["leaves"]:
        made = Leaf(
            leaf["type"],
            datetime.fromisoformat(leaf["time"]),
            leaf["session"],
            json.loads(leaf["body"]),
            bytes.fromhex(leaf["salt"]),
        )
        assert body_bytes(made).decode() == leaf["body"]
        assert envelope_bytes(made).decode() == leaf["envelope"]
    root = bytes.fromhex(vector["leaves"][-1]["root"])
    for proof in vector["inclusion"]:
        hashed = bytes.fromhex(vector["leaves"][proof["index"]]["leaf_hash"])
        path = [bytes.fromhex(step) for step in proof["proof"]]
        verify_inclusion(hashed, proof["index"], proof["size"], path, root)
    for proof in vector["consistency"]:
        older = bytes.fromhex(vector["leaves"][proof["old_size"] - 1]["root"])
        path = [bytes.fromhex(step) for step in proof["proof"]]
        verify_consistency(proof["old_size"], older, proof["size"], root, path)


def test_the_ledger_by_the_document_alone() -> None:
    envelopes: list[bytes] = []
    for leaf in load("ledger.json")["leaves"]:
        hashed = sha256(bytes.fromhex(leaf["salt"]), leaf["body"].encode())
        envelopes.append(envelope(leaf["type"], leaf["time"], leaf["session"], hashed))
        assert envelopes[-1].decode() == leaf["envelope"]
        assert sha256(b"\x00", envelopes[-1]).hex() == leaf["leaf_hash"]
        assert tree_root(envelopes).hex() == leaf["root"]


def test_the_checkpoint_by_the_recorder() -> None:
    vector = load("checkpoint.json")
    key, seed = parse_vkey(vector["vkey"]), bytes.fromhex(vector["seed"])
    checkpoint = verify_checkpoint(vector["note"], key)
    assert checkpoint_text(checkpoint) == vector["text"]
    assert sign_checkpoint(checkpoint, seed) == vector["note"]
    assert sign_sshsig(vector["text"], seed) == vector["sshsig"]
    assert allowed_signers(key) == vector["allowed_signers"]
    verify_sshsig(vector["text"], vector["sshsig"], key)


def test_the_checkpoint_by_the_document_alone() -> None:
    vector = load("checkpoint.json")
    check_sshsig(vector["text"], vector["sshsig"], vector["vkey"])
    with pytest.raises(Bad):
        check_sshsig(vector["text"] + "\n", vector["sshsig"], vector["vkey"])


def test_what_the_recorder_writes_satisfies_the_document(tmp_path: Path) -> None:
    path = closed_cast(tmp_path).path
    assert cast_heads(path)[-1].hex() == verify_cast(path).root
    state = state_with_sessions(tmp_path / "state")
    assert check_state(state.folder, VKEY) == 2
    state.execute("UPDATE leaf SET session = 's3' WHERE idx = 0")
    with pytest.raises(Bad, match="root of size"):
        check_state(state.folder, VKEY)
