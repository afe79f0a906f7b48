"""A second verifier, written from docs/formats.md alone.

It shares no code with ``recorder``: only the standard library and ssh-keygen.
Plain and slow on purpose, so that a reader can hold it against the document.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
import subprocess
import tempfile
from pathlib import Path


class Bad(Exception):
    """Something is not as the document says."""


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def need(condition: bool, what: str) -> None:
    if not condition:
        raise Bad(what)


def cast_heads(path: Path) -> list[bytes]:
    """The link after each line, all heads checked; for a cast without a torn end."""
    lines = path.read_bytes().splitlines(keepends=True)
    salts = Path(f"{path}.salts").read_bytes().splitlines(keepends=True)
    need(len(lines) == len(salts), "as many salts as lines")
    head = bytes.fromhex(json.loads(lines[0])["x_chain"]["genesis"])
    heads: list[bytes] = []
    for index, (line, proof) in enumerate(zip(lines, salts, strict=True)):
        need(len(proof) == 130 and proof[64:65] == b" ", f"form of salts line {index + 1}")
        inner = bytes.fromhex(proof[65:129].decode())
        if proof[:64] != b"-" * 64:
            need(sha256(bytes.fromhex(proof[:64].decode()), line) == inner, f"line {index + 1}")
        if index > 0:
            _, code, data = json.loads(line)
            if code == "h":
                need(data == f"{index}:{head.hex()}", f"head in line {index + 1}")
        head = sha256(head, inner)
        heads.append(head)
    return heads


def tree_root(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha256(b"")
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01", tree_root(leaves[:split]), tree_root(leaves[split:]))


def envelope(type_: str, time: str, session: str, body_hash: bytes) -> bytes:
    fields = {"body": body_hash.hex(), "session": session, "time": time, "type": type_}
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


def check_sshsig(text: str, armor: str, vkey: str) -> None:
    name, key_id, encoded = vkey.split("+", 2)
    public = base64.b64decode(encoded)
    need(public[0] == 1 and len(public) == 33, "an Ed25519 key")
    need(sha256(name.encode(), b"\n", public)[:4].hex() == key_id, "the key's id")
    blob = b"\x00\x00\x00\x0bssh-ed25519\x00\x00\x00\x20" + public[1:]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "signers").write_text(
            f"{name} ssh-ed25519 {base64.b64encode(blob).decode()}\n"
        )
        Path(folder, "sig").write_text(armor)
        command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", name]
        command += ["-n", "tollhouse-checkpoint@v1", "-s", "sig"]
        done = subprocess.run(command, cwd=folder, input=text.encode(), capture_output=True)
    need(done.returncode == 0, "the SSHSIG of a checkpoint")


def check_state(folder: Path, vkey: str) -> int:
    """Raise Bad, or return how many casts matched their ``session.close``."""
    database = sqlite3.connect(f"file:{folder}/store.sqlite3?mode=ro", uri=True)
    rows = list(
        database.execute(
            "SELECT idx, time, type, session, body, salt, body_hash FROM leaf ORDER BY idx"
        )
    )
    checkpoints = list(database.execute("SELECT size, note, sshsig FROM checkpoint"))
    database.close()
    leaves: list[bytes] = []
    closed = 0
    for position, (index, time, type_, session, body, salt, body_hash) in enumerate(rows):
        need(index == position, "no gaps")
        if body is not None:
            need(sha256(salt, body) == body_hash, f"body of leaf {index}")
        leaves.append(envelope(type_, time, session, body_hash))
        if type_ == "session.close":
            closing = json.loads(body)
            heads = cast_heads(folder / "casts" / f"{session}.cast")
            need(len(heads) == closing["lines"], f"lines of {session}")
            need(heads[-1].hex() == closing["cast_root"], f"root of {session}")
            closed += 1
    for size, note, sshsig in checkpoints:
        text = note.split("\n\n")[0] + "\n"
        origin, written_size, root = text.split("\n")[:3]
        need(origin == vkey.split("+")[0] and int(written_size) == size, "origin and size")
        need(base64.b64decode(root) == tree_root(leaves[:size]), f"root of size {size}")
        check_sshsig(text, sshsig, vkey)
    return closed
