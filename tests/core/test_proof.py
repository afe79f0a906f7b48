"""Proofs: real ssh-keygen signatures pass, everything near them does not."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.proof import NAMESPACE, PublicKey, check_proof, read_public_key
from gateway.core.wire import join_strings
from gateway.errors import LoginRefused

TOKEN = "aaa.bbb.ccc"


def make_key(folder: Path, *options: str) -> Path:
    key = folder / "id"
    subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(key), *options], check=True)
    return key


def sign(key: Path, token: str = TOKEN, namespace: str = NAMESPACE, *options: str) -> str:
    return subprocess.run(
        ["ssh-keygen", "-q", "-Y", "sign", "-f", str(key), "-n", namespace, *options],
        input=hashlib.sha256(token.encode()).digest(), capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip


def public(key: Path) -> PublicKey:
    return read_public_key(key.with_suffix(".pub").read_text())


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("key"), "-t", "ed25519")


@pytest.mark.parametrize(
    "options",
    [
        ("-t", "ed25519"),
        ("-t", "ecdsa", "-b", "256"),
        ("-t", "ecdsa", "-b", "384"),
        ("-t", "ecdsa", "-b", "521"),
        ("-t", "rsa", "-b", "2048"),
    ],
)
def test_each_kind_of_key(tmp_path: Path, options: tuple[str, ...]) -> None:
    made = make_key(tmp_path, *options)
    check_proof(sign(made), public(made), TOKEN)
    check_proof(sign(made, TOKEN, NAMESPACE, "-O", "hashalg=sha256"), public(made), TOKEN)
    with pytest.raises(LoginRefused, match="does not verify"):
        check_proof(sign(made), public(made), TOKEN + "x")


def test_fingerprint_as_ssh_keygen_prints_it(key: Path) -> None:
    told = subprocess.run(
        ["ssh-keygen", "-lf", str(key)], capture_output=True, text=True, check=True
    )
    assert public(key).fingerprint in told.stdout.split()


def refused(armored: str, key: PublicKey, token: str = TOKEN) -> str:
    with pytest.raises(LoginRefused) as caught:
        check_proof(armored, key, token)
    return caught.value.rule


def test_made_for_something_else(key: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path, "-t", "ed25519")
    assert refused(sign(key, namespace="git"), public(key)) == "proof.namespace"
    assert refused(sign(key, namespace="file"), public(key)) == "proof.namespace"
    assert refused(sign(other), public(key)) == "proof.signer"
    assert refused(sign(key, "another.token.x"), public(key)) == "proof.signature"


@pytest.mark.parametrize(
    "armored",
    [
        "",
        "x",
        "-----BEGIN SSH SIGNATURE-----",
        "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----",
    ],
)
def test_text_that_is_no_proof(key: Path, armored: str) -> None:
    assert refused(armored, public(key)) == "proof.format"


def unarmored(armored: str) -> bytes:
    return base64.b64decode("".join(armored.split("\n")[1:-2]))


def armored(raw: bytes) -> str:
    text = base64.b64encode(raw).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{text}\n-----END SSH SIGNATURE-----\n"


def test_every_cut_changed_byte_and_tail_is_refused(key: Path) -> None:
    good, holder = unarmored(sign(key)), public(key)
    check_proof(armored(good), holder, TOKEN)
    for end in range(len(good)):
        refused(armored(good[:end]), holder)
    for at in range(len(good)):
        # The reserved field is signed too, so not one byte may differ.
        changed = bytearray(good)
        changed[at] ^= 1
        refused(armored(bytes(changed)), holder)
    assert refused(armored(good + b"\0"), holder) == "proof.format"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 !!!!",
        "ssh-ed25519 AAAA",
        "ssh-rsa " + base64.b64encode(join_strings(b"ssh-ed25519", b"x" * 32)).decode(),
        "ssh-ed25519 " + base64.b64encode(join_strings(b"ssh-ed25519", b"x" * 31)).decode(),
        "ssh-ed25519 " + "A" * 9000,
        "a b\nc d",
    ],
)
def test_text_that_is_no_key(text: str) -> None:
    with pytest.raises(LoginRefused) as caught:
        read_public_key(text)
    assert caught.value.rule == "proof.key"


def test_kinds_of_key_that_are_not_certified() -> None:
    short = asyncssh.generate_private_key("ssh-rsa", key_size=1024)
    signed = asyncssh.generate_private_key("ssh-ed25519")
    certificate = signed.generate_user_certificate(signed, "x", principals=["x"])
    for text in (
        short.export_public_key("openssh").decode(),
        certificate.export_certificate("openssh").decode(),
    ):
        with pytest.raises(LoginRefused) as caught:
            read_public_key(text)
        assert caught.value.rule == "proof.key"


@settings(max_examples=200, deadline=None)
@given(st.text(), st.binary(max_size=300))
def test_garbage_raises_only_its_own_error(text: str, raw: bytes) -> None:
    for attempt in (text, armored(raw), armored(b"SSHSIG\0\0\0\1" + raw)):
        refused(attempt, HOLDER)
    for line in (text, f"ssh-ed25519 {text}", "ssh-ed25519 " + base64.b64encode(raw).decode()):
        with pytest.raises(LoginRefused):
            read_public_key(line)


HOLDER = read_public_key(
    asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
)
