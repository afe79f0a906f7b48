"""The ledger tells what a cast alone cannot."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from recorder.note import VerificationKey, format_vkey, public_key
from recorder.report import State, StoreReport
from recorder.salts import salts_path
from recorder.verify import verify_paths, verify_store
from tests.recorder.records import (
    KEY,
    VKEY,
    StateFolder,
    closed_cast,
    new_writer,
    record,
    state_with_sessions,
)


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    return state_with_sessions(tmp_path / "state")


def check(state: StateFolder, vkey: str | None = VKEY) -> StoreReport:
    return verify_store(state.folder, vkey)


def reasons(report: StoreReport) -> str:
    problems = list(report.problems)
    problems += [s.cast.problem for s in report.sessions if s.cast and s.cast.problem]
    return "; ".join(problem.reason for problem in problems)


def assert_not_intact(state: StateFolder, *words: str) -> None:
    report = check(state)
    assert report.state is State.NOT_INTACT
    for word in words:
        assert word in reasons(report)


def test_an_untouched_state_is_intact_and_complete(state: StateFolder) -> None:
    report = check(state)
    assert (report.state, report.complete) == (State.INTACT, True)
    assert report.leaves == report.signed_leaves == 5
    assert report.checkpoints == 3
    assert [session.session for session in report.sessions] == ["s1", "s2"]
    assert report.remarks == ()
    assert list(report.text())


def test_the_folders_own_key_is_used_with_a_loud_remark(state: StateFolder) -> None:
    report = check(state, vkey=None)
    assert report.state is State.INTACT
    assert any("SAME FOLDER" in remark for remark in report.remarks)
    (state.folder / "log.vkey").unlink()
    assert check(state, vkey=None).state is State.UNREADABLE
    (state.folder / "log.vkey").write_bytes(b"\xff\xff")
    assert check(state, vkey=None).state is State.UNREADABLE
    assert check(state, vkey="nonsense").state is State.UNREADABLE


def test_a_folder_without_a_store_or_with_a_damaged_one_is_unreadable(tmp_path: Path) -> None:
    assert verify_store(tmp_path, VKEY).state is State.UNREADABLE
    (tmp_path / "store.sqlite3").write_bytes(b"this is no database, however long it is" * 100)
    assert verify_store(tmp_path, VKEY).state is State.UNREADABLE
    (tmp_path / "store.sqlite3").unlink()
    sqlite3.connect(tmp_path / "store.sqlite3").close()
    assert verify_store(tmp_path, VKEY).state is State.UNREADABLE


@pytest.mark.parametrize(
    ("statement", "word"),
    [
        ("UPDATE leaf SET body = x'7b7d' WHERE idx = 1", "body or its salt"),
        ("UPDATE leaf SET salt = zeroblob(32) WHERE idx = 1", "body or its salt"),
        ("UPDATE leaf SET salt = x'00' WHERE idx = 1", "salt"),
        ("UPDATE leaf SET salt = NULL WHERE idx = 1", "body or its salt"),
        ("UPDATE leaf SET body_hash = zeroblob(32) WHERE idx = 1", "not those that were signed"),
        ("UPDATE leaf SET body_hash = x'00' WHERE idx = 1", "32 bytes"),
        ("UPDATE leaf SET type = 'session.killed' WHERE idx = 1", "does not know"),
        ("UPDATE leaf SET type = 'nonsense' WHERE idx = 1", "unknown leaf type"),
        ("UPDATE leaf SET session = 's3' WHERE idx = 1", "not those that were signed"),
        ("UPDATE leaf SET time = '2026-07-02T08:00:00.000000Z' WHERE idx = 1", "signed"),
        ("UPDATE leaf SET time = 'yesterday' WHERE idx = 1", "RFC 3339"),
        ("DELETE FROM leaf WHERE idx = 1", "missing"),
        ("DELETE FROM leaf WHERE idx = 4", "was cut"),
        ("DELETE FROM leaf", "was cut"),
        ("UPDATE leaf SET idx = 9 WHERE idx = 4", "missing"),
        ("DELETE FROM checkpoint", "no checkpoint"),
        ("UPDATE checkpoint SET size = 4 WHERE size = 5", "another size"),
        ("UPDATE checkpoint SET note = 'x' WHERE size = 5", "checkpoint of size 5"),
        ("UPDATE checkpoint SET note = replace(note, '5', '6') WHERE size = 5", "of size 5"),
        ("UPDATE checkpoint SET sshsig = 'x' WHERE size = 5", "SSHSIG"),
        ("UPDATE leaf SET body = NULL, salt = NULL WHERE idx = 2", "session.close was erased"),
    ],
)
def test_every_change_of_the_ledger_fails(state: StateFolder, statement: str, word: str) -> None:
    state.execute(statement)
    assert_not_intact(state, word)


@pytest.mark.parametrize("body", [b'{"b":1, "a":2}', b"[]", b"{", b"[" * 100_000, b'{"a":1.5}'])
def test_a_signed_body_that_is_not_canonical_fails(state: StateFolder, body: bytes) -> None:
    state.append_raw("config.loaded", "", body)
    state.sign()
    assert_not_intact(state)
    assert [problem.leaf for problem in check(state).problems] == [5]


@pytest.mark.parametrize("table", ["leaf", "checkpoint"])
def test_values_of_other_types_are_unreadable(state: StateFolder, table: str) -> None:
    column = {"leaf": "type", "checkpoint": "note"}[table]
    state.execute(f"UPDATE {table} SET {column} = x'00'")
    assert check(state).state is State.UNREADABLE


def test_an_erased_body_leaves_its_hash_and_the_rest_stands(state: StateFolder) -> None:
    state.execute("UPDATE leaf SET body = NULL, salt = NULL WHERE idx IN (0, 1)")
    report = check(state)
    assert (report.state, report.erased_bodies) == (State.INTACT, 2)
    assert report.complete


def test_a_swapped_pair_of_leaves_fails(state: StateFolder) -> None:
    state.execute("UPDATE leaf SET idx = -1 WHERE idx = 1")
    state.execute("UPDATE leaf SET idx = 1 WHERE idx = 3")
    state.execute("UPDATE leaf SET idx = 3 WHERE idx = -1")
    assert_not_intact(state, "not those that were signed")


def test_a_ledger_signed_by_another_key_fails(state: StateFolder) -> None:
    other = VKEY.replace("log.example/clinic", "log.example/other")
    assert check(state, vkey=other).state is State.UNREADABLE
    forged = StateFolder(state.folder.parent / "forged")
    forged.append("gateway.started", "", {})
    forged.sign()
    report = verify_store(
        forged.folder, format_vkey(VerificationKey(KEY.name, public_key(bytes(32))))
    )
    assert report.state is State.NOT_INTACT
    assert "did not sign" in reasons(report)


def test_leaves_past_the_checkpoint_are_reported(state: StateFolder) -> None:
    state.append("config.loaded", "", {})
    report = check(state)
    assert report.state is State.INTACT
    assert (report.leaves, report.signed_leaves, report.complete) == (6, 5, False)
    assert any("not yet signed" in remark for remark in report.remarks)


def test_a_session_that_was_never_closed_is_intact_but_not_complete(state: StateFolder) -> None:
    writer = state.open_session("s3")
    record(writer)
    writer.write("o", "lost", 9)
    state.sign()
    report = check(state)
    assert report.state is State.INTACT
    assert not report.complete
    assert any("never closed" in line for line in report.text())
    assert verify_paths([state.folder], VKEY, complete=False).exit_code == 0
    assert verify_paths([state.folder], VKEY, complete=True).exit_code == 1
    writer.close()


def test_a_session_that_stopped_before_its_cast_was_made_is_intact(state: StateFolder) -> None:
    state.append("session.open", "s3", {"cast": "s3.cast"})
    state.sign()
    report = check(state)
    assert (report.state, report.complete) == (State.INTACT, False)


def test_a_cast_without_events_may_precede_its_session(state: StateFolder) -> None:
    writer = new_writer(state.casts, "s3")
    report = check(state)
    assert report.state is State.INTACT
    assert any("s3.cast" in remark for remark in report.remarks)
    writer.write("o", "something", 1)
    writer.sync()
    assert_not_intact(state, "does not know")
    writer.close()


def test_a_strange_cast_fails(state: StateFolder) -> None:
    closed_cast(state.casts, "stranger")
    assert_not_intact(state, "does not know")


@pytest.mark.parametrize("content", [b"", b"noise\nnoise\n", b"x" * 200_000])
def test_a_strange_file_is_judged_without_harm(state: StateFolder, content: bytes) -> None:
    (state.casts / "x.cast").write_bytes(content)
    expected = State.NOT_INTACT if content else State.INTACT
    assert check(state).state is expected


def test_a_cast_that_is_gone_fails(state: StateFolder) -> None:
    (state.casts / "s1.cast").unlink()
    assert_not_intact(state, "is gone")
    shutil.rmtree(state.casts)
    assert_not_intact(state, "is gone")


def test_missing_salts_are_unreadable(state: StateFolder) -> None:
    salts_path(state.casts / "s1.cast").unlink()
    report = check(state)
    assert report.state is State.UNREADABLE
    assert verify_paths([state.folder], VKEY, complete=False).exit_code == 2


def test_two_casts_that_changed_places_fail(state: StateFolder) -> None:
    for suffix in (".cast", ".cast.salts"):
        (state.casts / f"s1{suffix}").rename(state.casts / "parked")
        (state.casts / f"s2{suffix}").rename(state.casts / f"s1{suffix}")
        (state.casts / "parked").rename(state.casts / f"s2{suffix}")
    assert_not_intact(state, "another session")


def cut_at_a_head(cast: Path) -> None:
    for path in (cast, salts_path(cast)):
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:7]))


def recompute(cast: Path) -> None:
    folder = cast.parent / "forge"
    folder.mkdir()
    closed_cast(folder, "s1", commands=4)
    for path in folder.iterdir():
        path.replace(cast.parent / path.name)
    folder.rmdir()


def cut_in_a_line(cast: Path) -> None:
    cast.write_bytes(cast.read_bytes()[:-5])


def tear_the_salts(cast: Path) -> None:
    salts = salts_path(cast)
    salts.write_bytes(salts.read_bytes()[:-5])


def empty(cast: Path) -> None:
    cast.write_bytes(b"")


@pytest.mark.parametrize(
    "forge",
    [cut_at_a_head, recompute, cut_in_a_line, tear_the_salts, empty],
    ids=lambda f: f.__name__,
)
def test_a_closed_cast_must_match_its_root_and_lines(
    state: StateFolder, forge: Callable[[Path], None]
) -> None:
    forge(state.casts / "s1.cast")
    assert_not_intact(state)


def test_a_heartbeat_vouches_for_a_session_that_never_closed(state: StateFolder) -> None:
    writer = state.open_session("s3")
    record(writer)
    body: dict[str, object] = {"cast_root": writer.root, "lines": writer.lines}
    state.append("session.heartbeat", "s3", body)
    state.sign()
    assert check(state).state is State.INTACT
    cut_at_a_head(state.casts / "s3.cast")
    assert_not_intact(state, "cut")
    writer.close()


def test_a_recording_that_failed_is_closed_without_a_root(state: StateFolder) -> None:
    writer = state.open_session("s3")
    record(writer)
    body: dict[str, object] = {"cast_root": None, "lines": writer.lines, "reason": "disk full"}
    state.append("session.close", "s3", body)
    state.sign()
    report = check(state)
    assert (report.state, report.complete) == (State.INTACT, False)
    assert any("recording failed" in line for line in report.text())
    writer.close()


@pytest.mark.parametrize(
    "body",
    [
        {"cast_root": "zz", "lines": 3, "reason": ""},
        {"cast_root": "ab" * 32, "lines": 0, "reason": ""},
        {"cast_root": "ab" * 32, "lines": True, "reason": ""},
        {"cast_root": "ab" * 32, "reason": ""},
        {},
    ],
)
def test_a_close_that_cannot_be_checked_fails(state: StateFolder, body: dict[str, object]) -> None:
    state.append("session.open", "s3", {})
    state.append("session.close", "s3", body)
    state.sign()
    assert_not_intact(state, "cast_root")


def test_sessions_open_and_close_once(state: StateFolder) -> None:
    state.append("session.open", "s1", {})
    state.append("session.close", "s9", {"cast_root": None, "lines": 0, "reason": ""})
    state.append("session.open", "../s1", {})
    state.sign()
    assert_not_intact(state, "opened twice", "not open", "cannot name a file")


WRITER = """
import os, signal, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("PRAGMA wal_autocheckpoint = 0")
database.execute("INSERT INTO checkpoint SELECT 99, note, sshsig FROM checkpoint LIMIT 1")
database.commit()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_only_the_write_ahead_log_holds_is_read(state: StateFolder) -> None:
    store = state.folder / "store.sqlite3"
    done = subprocess.run([sys.executable, "-c", WRITER, str(store)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (state.folder / "store.sqlite3-wal").stat().st_size > 0
    assert_not_intact(state, "was cut")


READER = """
import os, sys
from pathlib import Path
from recorder.storefile import open_store
if os.geteuid() == 0:
    os.seteuid(65534)  # root may write anywhere
with open_store(Path(sys.argv[1])) as store:
    print([row.size for row in store.checkpoints()])
"""


def test_the_store_is_read_where_nothing_may_be_written() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = state_with_sessions(Path(folder, "state"))
        store = state.folder / "store.sqlite3"
        subprocess.run([sys.executable, "-c", WRITER, str(store)], check=False)
        Path(f"{store}-shm").unlink()
        Path(folder).chmod(0o755)
        state.folder.chmod(0o555)
        done = subprocess.run(
            [sys.executable, "-c", READER, str(state.folder)], capture_output=True, text=True
        )
        state.folder.chmod(0o755)
        assert done.stdout == "[1, 3, 5, 99]\n", done.stderr
        assert not Path(f"{store}-shm").exists()


def test_a_gateway_that_writes_meanwhile_is_not_disturbed(state: StateFolder) -> None:
    database = sqlite3.connect(state.folder / "store.sqlite3")
    database.execute("BEGIN IMMEDIATE")
    database.execute("DELETE FROM leaf")
    assert check(state).state is State.INTACT
    database.rollback()
    database.close()


def test_without_the_library_ssh_keygen_checks_the_checkpoints(state: StateFolder) -> None:
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from recorder.__main__ import main\n"
        f"sys.exit(main(['verify', sys.argv[1], '--vkey', {VKEY!r}]))"
    )
    command = [sys.executable, "-c", code, str(state.folder)]
    assert subprocess.run(command, check=False).returncode == 0
    state.execute("UPDATE checkpoint SET sshsig = (SELECT sshsig FROM checkpoint LIMIT 1)")
    assert subprocess.run(command, check=False).returncode == 1
    state.execute("UPDATE checkpoint SET sshsig = NULL")
    assert subprocess.run(command, check=False).returncode == 1
    assert check(state).state is State.INTACT


def test_many_problems_are_counted(state: StateFolder) -> None:
    for _ in range(30):
        state.append("session.open", "s1", {})
    state.sign()
    report = check(state)
    assert len(report.problems) == 20
    assert any("10 more" in remark for remark in report.remarks)
