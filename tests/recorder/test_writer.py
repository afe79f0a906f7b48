from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from recorder.cast import CastReader, Event
from recorder.chain import MAX_LINE_BYTES
from recorder.errors import RecorderError
from recorder.report import State
from recorder.salts import parse_salt_line, salts_path
from recorder.verify import verify_cast
from recorder.writer import BUFFER_BYTES, CastWriter
from tests.recorder.records import GENESIS, SEED, STARTED, closed_cast, new_writer


def events_of(path: Path) -> list[Event]:
    reader = CastReader()
    events = reader.feed(path.read_bytes())
    reader.finish()
    return events


def test_a_new_recording_is_private_and_verifies_at_once(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    for path in (writer.path, salts_path(writer.path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    report = verify_cast(writer.path)
    assert (report.state, report.lines, report.proven_lines) == (State.INTACT, 2, 2)
    header = json.loads(writer.path.read_bytes().splitlines()[0])
    assert header["x_chain"] == {"version": 1, "session": "s1", "genesis": GENESIS.hex()}
    writer.close()


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    writer = closed_cast(tmp_path)
    events = events_of(writer.path)
    assert [event.code for event in events] == list("h" + "imooh" * 3 + "rh")
    assert events[-1].data.startswith(f"{writer.lines - 1}:")
    assert events[-1].time_us == events[-2].time_us == 60_000_000
    report = verify_cast(writer.path)
    assert (report.root, report.lines) == (writer.root, writer.lines)
    assert report.complete


def test_nothing_is_on_the_disk_before_its_salt(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    size = writer.path.stat().st_size
    writer.write("o", "kept back", 1)
    assert writer.path.stat().st_size == size
    writer.write("o", "x" * BUFFER_BYTES, 1)
    cast, salts = writer.path.read_bytes(), salts_path(writer.path).read_bytes()
    assert cast.count(b"\n") == salts.count(b"\n") == writer.lines
    for line in salts.splitlines(keepends=True):
        parse_salt_line(line)
    writer.close()


def test_salts_are_durable_before_their_lines_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = new_writer(tmp_path)
    calls: list[str] = []
    fsync, write = os.fsync, os.write

    def name(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().suffix

    def seen_fsync(descriptor: int) -> None:
        calls.append(f"fsync {name(descriptor)}")
        fsync(descriptor)

    def seen_write(descriptor: int, data: bytes) -> int:
        calls.append(f"write {name(descriptor)}")
        return write(descriptor, data)

    monkeypatch.setattr(os, "fsync", seen_fsync)
    monkeypatch.setattr(os, "write", seen_write)
    writer.write("o", "output", 1)
    writer.sync()
    assert calls == ["write .salts", "fsync .salts", "write .cast", "fsync .cast"]
    writer.close()


def test_a_head_is_written_once(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    writer.head()
    writer.head()
    assert writer.lines == 2
    writer.close()


def test_time_never_goes_backwards_and_long_data_are_split(tmp_path: Path) -> None:
    writer = new_writer(tmp_path)
    writer.write("o", "late", 5)
    writer.write("o", "\x1b" * 100_000, 4)
    writer.close()
    lines = writer.path.read_bytes().splitlines(keepends=True)
    assert max(len(line) for line in lines) <= MAX_LINE_BYTES
    assert {event.time_us for event in events_of(writer.path)[1:]} == {5_000_000}
    assert verify_cast(writer.path).complete


@pytest.mark.parametrize(
    ("code", "data", "at_s"),
    [("h", "1:" + "0" * 64, 1), ("o", "\ud800", 1), ("o", "", -1), ("o", "", float("nan"))],
)
def test_a_bad_event_is_refused_and_the_writer_goes_on(
    tmp_path: Path, code: str, data: str, at_s: float
) -> None:
    writer = new_writer(tmp_path)
    with pytest.raises(ValueError):
        writer.write(code, data, at_s)  # type: ignore[arg-type]
    writer.write("o", "good", 1)
    writer.close()
    assert verify_cast(writer.path).complete


@pytest.mark.parametrize("session", ["", "../s1", ".hidden", "a/b", "a\n", "x" * 129])
def test_a_session_id_that_cannot_name_a_file_creates_nothing(tmp_path: Path, session: str) -> None:
    with pytest.raises(ValueError, match="session"):
        new_writer(tmp_path, session)
    assert list(tmp_path.iterdir()) == []


def test_a_recording_is_never_written_over(tmp_path: Path) -> None:
    before = closed_cast(tmp_path).path.read_bytes()
    with pytest.raises(RecorderError):
        new_writer(tmp_path)
    assert (tmp_path / "s1.cast").read_bytes() == before


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "s1.cast").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RecorderError):
        new_writer(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_a_recorder_error(tmp_path: Path) -> None:
    with pytest.raises(RecorderError):
        new_writer(tmp_path / "missing")


def test_a_closed_writer_refuses_everything_but_close(tmp_path: Path) -> None:
    writer = closed_cast(tmp_path)
    writer.close()
    for refused in (writer.head, writer.sync, lambda: writer.write("o", "", 100)):
        with pytest.raises(RecorderError):
            refused()
    assert writer.root is not None


def test_a_full_disk_poisons_the_writer_and_the_record_up_to_the_head_holds(tmp_path: Path) -> None:
    # A limit on the size of files is a disk that fills up, for one process only.
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = new_writer(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        writer.write("o", "fits", 1)
        writer.head()
        writer.sync()
        durable = writer.lines
        writer.write("o", "x" * 30_000, 2)
        with pytest.raises(RecorderError):
            writer.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert (writer.root, writer.lines) == (None, durable)
    for refused in (writer.head, writer.sync, lambda: writer.write("o", "later", 3)):
        with pytest.raises(RecorderError):
            refused()
    writer.close()
    report = verify_cast(writer.path)
    assert report.state is State.INTACT
    assert report.proven_lines == durable
    assert report.torn_bytes > 0
    assert report.missing_lines == 1


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.recorder.records import new_writer
writer = new_writer(Path(sys.argv[1]))
for number in range(10_000):
    writer.write("o", "x" * 700, number)
    if number % 50 == 0:
        writer.head(); writer.sync()
    if number == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("number", [0, 49, 50, 51, 2_345])
def test_a_killed_process_leaves_an_intact_record(tmp_path: Path, number: int) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(number)], check=False)
    assert done.returncode == -signal.SIGKILL
    report = verify_cast(tmp_path / "s1.cast")
    assert report.state is State.INTACT
    synced = number // 50 + 1
    assert report.proven_lines == 2 + 1 + (synced - 1) * 50 + synced


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    closed_cast(tmp_path)
    with pytest.raises(RecorderError):
        new_writer(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_arguments_of_wrong_length_create_nothing(tmp_path: Path) -> None:
    for genesis, seed in ((b"short", SEED), (GENESIS, b"short")):
        with pytest.raises(ValueError):
            CastWriter.create(tmp_path, "s1", started=STARTED, genesis=genesis, seed=seed)
    assert list(tmp_path.iterdir()) == []
