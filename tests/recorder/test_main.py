"""``python -m recorder`` as an auditor runs it, and asciinema on what it verified."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.__main__ import main
from recorder.report import printable
from recorder.salts import salts_path
from tests.recorder.records import VKEY, closed_cast, state_with_sessions

ROOT = Path(__file__).parent.parent.parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "recorder", "verify", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def flip_line(path: Path, number: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number - 1] = lines[number - 1].replace(b"0", b"1", 1)
    path.write_bytes(b"".join(lines))


def test_an_intact_cast_is_0_and_a_flipped_byte_is_1_with_its_line(tmp_path: Path) -> None:
    path = closed_cast(tmp_path).path
    done = run(str(path))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("verdict: intact, complete\n")
    flip_line(path, 5)
    done = run(str(path))
    assert done.returncode == 1
    assert "line 5:" in done.stdout
    assert "expected " in done.stdout
    assert done.stdout.endswith("verdict: NOT INTACT\n")


def test_a_state_folder_with_json(tmp_path: Path) -> None:
    state = state_with_sessions(tmp_path / "state")
    done = run(str(state.folder), "--vkey", VKEY, "--json", "--complete")
    assert done.returncode == 0
    report = json.loads(done.stdout)
    assert (report["version"], report["verdict"], report["complete"]) == (1, "intact", True)
    assert [session["session"] for session in report["stores"][0]["sessions"]] == ["s1", "s2"]
    flip_line(state.casts / "s2.cast", 3)
    done = run(str(state.folder), "--vkey", VKEY, "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["verdict"], report["exit_code"]) == (1, "not-intact", 1)
    cast = report["stores"][0]["sessions"][1]["cast"]
    assert (cast["state"], cast["problem"]["line"]) == ("not-intact", 3)


def test_what_cannot_be_read_is_2_and_a_change_outweighs_it(tmp_path: Path) -> None:
    path = closed_cast(tmp_path).path
    missing = str(tmp_path / "missing.cast")
    assert run(missing).returncode == 2
    assert run(str(tmp_path)).returncode == 2
    assert run(missing, str(path)).returncode == 2
    flip_line(path, 5)
    assert run(missing, str(path)).returncode == 1


def test_misuse_is_2() -> None:
    assert run().returncode == 2
    assert run("--nonsense").returncode == 2


def test_complete_makes_a_crash_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = closed_cast(tmp_path).path
    path.write_bytes(path.read_bytes()[:-3])
    assert main(["verify", str(path)]) == 0
    assert main(["verify", str(path), "--complete"]) == 1
    assert "torn last line" in capsys.readouterr().out


def test_untrusted_names_are_shown_without_control_characters(tmp_path: Path) -> None:
    done = run(str(tmp_path / "a\x1b[31m\u202eb.cast"))
    assert "\\u{1b}[31m\\u{202e}b.cast" in done.stdout
    assert printable("a\nü") == "a\\u{a}ü"


def test_a_terminal_that_cannot_show_a_name_changes_no_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = closed_cast(tmp_path).path
    for old in (path, salts_path(path)):
        old.rename(old.with_name(old.name.replace("s1", "Müller")))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run(str(tmp_path / "Müller.cast"))
    assert done.returncode == 0
    assert "M\\xfcller.cast: intact" in done.stdout


def test_the_verifier_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    state = state_with_sessions(tmp_path / "state")
    # -I -S: no site-packages, nothing from the environment.
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from recorder.__main__ import main\n"
    code += f"sys.exit(main(['verify', {str(state.folder)!r}, '--vkey', {VKEY!r}]))"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_asciinema_plays_what_was_recorded(tmp_path: Path) -> None:
    path = closed_cast(tmp_path).path
    program = Path(sys.executable).parent / "asciinema"
    done = subprocess.run(
        [program, "cat", str(path)], capture_output=True, stdin=subprocess.DEVNULL, check=False
    )
    assert done.returncode == 0, done.stderr
    expected = "".join(f" [SSN] Müller 😀 {n}\r\n(1 row)\r\n" for n in range(3))
    assert done.stdout.decode() == expected
