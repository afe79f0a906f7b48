"""Passwords: where they may lie, and that nothing prints them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from gateway.credentials import (
    EnvironmentSource,
    FileSource,
    NoPassword,
    PasswordSource,
    Secret,
    read_password,
)
from gateway.errors import TargetUnavailable

PASSWORD = "pässword with spaces "


def written(folder: Path, data: bytes, mode: int = 0o600) -> FileSource:
    path = folder / "password"
    path.write_bytes(data)
    path.chmod(mode)
    return FileSource(path)


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_password_is_the_files_one_line(tmp_path: Path, end: str) -> None:
    source = written(tmp_path, (PASSWORD + end).encode())
    assert read_password(source, {}).reveal() == PASSWORD


def test_a_password_from_the_environment_or_none() -> None:
    assert read_password(EnvironmentSource("PW"), {"PW": PASSWORD}).reveal() == PASSWORD
    assert read_password(NoPassword(), {}).reveal() == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_reach_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(TargetUnavailable, match="others can reach") as refused:
        read_password(written(tmp_path, PASSWORD.encode(), mode), {})
    assert PASSWORD not in str(refused.value)


@pytest.mark.parametrize("data", [b"", b"\n", b"a\nb\n", b"a\0b", b"\xff\xfe"])
def test_a_file_without_one_password_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(TargetUnavailable):
        read_password(written(tmp_path, data), {})


@pytest.mark.parametrize(
    "source", [FileSource(Path("/nonexistent/pw")), EnvironmentSource("PW_MISSING")], ids=str
)
def test_a_missing_source_is_named(source: PasswordSource) -> None:
    with pytest.raises(TargetUnavailable, match=r"nonexistent|PW_MISSING"):
        read_password(source, {})


def test_a_secret_does_not_show_itself() -> None:
    secret = Secret(PASSWORD)
    for text in (repr(secret), str(secret), f"{secret}", f"{[secret]!r}"):
        assert PASSWORD not in text
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    assert not hasattr(secret, "__dict__")
