"""verify: its three exit codes, in words and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.cli import run
from tests.recorder.records import VKEY, closed_cast, new_writer, record, state_with_sessions


def test_an_intact_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = state_with_sessions(tmp_path / "state")
    assert run(["verify", "--vkey", VKEY, "--complete", str(state.folder)]) == 0
    assert "verdict: intact, complete" in capsys.readouterr().out
    assert run(["verify", "--vkey", VKEY, "--json", str(state.folder)]) == 0
    assert json.loads(capsys.readouterr().out)["stores"][0]["state"] == "intact"


def test_a_key_from_the_same_folder_is_remarked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = state_with_sessions(tmp_path / "state")
    assert run(["verify", str(state.folder)]) == 0
    assert "THE KEY CAME FROM THE SAME FOLDER" in capsys.readouterr().out


def test_a_change_is_1_and_names_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = closed_cast(tmp_path).path
    path.write_bytes(path.read_bytes().replace(b"(1 row)", b"(2 row)", 1))
    assert run(["verify", str(path)]) == 1
    assert "line 6: " in capsys.readouterr().out


def test_what_cannot_be_read_is_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", str(tmp_path / "none.cast")]) == 2
    assert "UNREADABLE" in capsys.readouterr().out


def test_complete_makes_an_open_session_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = new_writer(tmp_path)
    record(writer)
    writer.write("o", "not headed\r\n", 9)
    writer.sync()
    path = str(writer.path)
    assert run(["verify", path]) == 0
    assert "1 unproven" in capsys.readouterr().out
    assert run(["verify", "--complete", path]) == 1
    writer.close()
