from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.errors import NoteInvalid, SignatureInvalid, VerifierMissing
from recorder.note import Checkpoint, VerificationKey, checkpoint_text, public_key
from recorder.sshsig import (
    NAMESPACE,
    allowed_signers,
    sign_sshsig,
    verify_sshsig,
    verify_with_ssh_keygen,
)
from tests.recorder.records import KEY, LOG_SEED

TEXT = checkpoint_text(Checkpoint(KEY.name, 7, bytes(range(32))))
ARMOR = sign_sshsig(TEXT, LOG_SEED)


def test_stock_ssh_keygen_accepts_the_signature(tmp_path: Path) -> None:
    (tmp_path / "signers").write_text(allowed_signers(KEY))
    (tmp_path / "sig").write_text(ARMOR)
    command = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", KEY.name, "-n", NAMESPACE]
    command += ["-s", "sig"]
    good = subprocess.run(command, cwd=tmp_path, input=TEXT.encode(), capture_output=True)
    assert good.returncode == 0, good.stderr
    assert b"Good" in good.stdout
    bad = subprocess.run(command, cwd=tmp_path, input=TEXT.encode() + b" ", capture_output=True)
    assert bad.returncode != 0


def test_both_ways_to_verify_agree() -> None:
    other = VerificationKey(KEY.name, public_key(bytes(32)))
    for verify in (verify_sshsig, verify_with_ssh_keygen):
        verify(TEXT, ARMOR, KEY)
        with pytest.raises(SignatureInvalid):
            verify(TEXT.replace("7", "8"), ARMOR, KEY)
        with pytest.raises(SignatureInvalid):
            verify(TEXT, ARMOR, other)
        with pytest.raises(SignatureInvalid):
            verify(TEXT, sign_sshsig(TEXT, bytes(32)), KEY)
        with pytest.raises(SignatureInvalid):
            verify(TEXT, "not a signature", KEY)


def test_a_signature_by_ssh_keygen_is_accepted_here(tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    blob = base64.b64decode((tmp_path / "key.pub").read_text().split()[1])
    command = ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", str(key)]
    done = subprocess.run(command, input=TEXT.encode(), capture_output=True, check=True)
    verify_sshsig(TEXT, done.stdout.decode(), VerificationKey(KEY.name, blob[-32:]))
    command = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", str(key)]
    done = subprocess.run(command, input=TEXT.encode(), capture_output=True, check=True)
    with pytest.raises(SignatureInvalid):
        verify_sshsig(TEXT, done.stdout.decode(), VerificationKey(KEY.name, blob[-32:]))


def test_base64_has_one_form() -> None:
    # The last letter before the padding has four bits that decode to nothing.
    assert "A==\n" in ARMOR
    with pytest.raises(SignatureInvalid, match="one form"):
        verify_sshsig(TEXT, ARMOR.replace("A==\n", "B==\n"), KEY)


@given(st.data())
def test_random_changes_of_the_armour_are_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(ARMOR)))
    end = data.draw(st.integers(at, len(ARMOR)))
    changed = ARMOR[:at] + data.draw(st.text(max_size=20)) + ARMOR[end:]
    # Line breaks inside the base64 carry nothing.
    if changed.replace("\n", "") == ARMOR.replace("\n", ""):
        return
    with pytest.raises(SignatureInvalid):
        verify_sshsig(TEXT, changed, KEY)


@pytest.mark.parametrize("name", ["a,b", "*", "!a", 'a"b', "-x"])
def test_a_name_that_means_something_to_ssh_is_refused(name: str) -> None:
    with pytest.raises(NoteInvalid):
        allowed_signers(VerificationKey(name, KEY.public))


def test_without_ssh_keygen_there_is_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(VerifierMissing):
        verify_with_ssh_keygen(TEXT, ARMOR, KEY)
